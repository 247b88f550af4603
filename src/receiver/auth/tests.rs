//! Tokens and passwords, right and wrong, few and many.

use std::path::PathBuf;

use http::HeaderValue;
use tempfile::TempDir;

use super::config::{BasicConfig, BearerConfig, Htpasswd};
use super::*;
use crate::secret::Secret;

fn headers(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_str(value).unwrap())])
}

fn authorization(value: &str) -> HeaderMap {
    headers("authorization", value)
}

fn basic(name: &str, password: &str) -> HeaderMap {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    authorization(&format!("Basic {encoded}"))
}

fn open_one(config: AuthenticatorConfig) -> Result<Arc<Authenticator>, String> {
    let opened = open(&BTreeMap::from([("it".to_owned(), config)])).map_err(|error| error.to_string())?;
    Ok(named(&opened, &AuthConfig { authenticator: "it".to_owned() }, "key").unwrap())
}

fn bearer(config: BearerConfig) -> Result<Arc<Authenticator>, String> {
    open_one(AuthenticatorConfig::Bearer(config))
}

fn passwords(file: Option<PathBuf>, inline: &str) -> Result<Arc<Authenticator>, String> {
    let inline = (!inline.is_empty()).then(|| Secret::new(inline));
    open_one(AuthenticatorConfig::Basic(BasicConfig { htpasswd: Htpasswd { file, inline } }))
}

/// `name:password` as `htpasswd -B -C 4` writes it.
fn line(name: &str, password: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap().replace("$2b$", "$2y$"))
}

fn tokens(tokens: &[&str]) -> BearerConfig {
    BearerConfig {
        tokens: tokens.iter().map(|token| Secret::new(*token)).collect(),
        ..BearerConfig::default()
    }
}

#[tokio::test]
async fn every_token_is_taken_and_no_other() {
    let one = BearerConfig { token: Some(Secret::new("first")), ..BearerConfig::default() };
    for (config, right, wrong) in [
        (
            one,
            &["Bearer first", "bearer first"][..],
            &["Bearer firs", "Bearer first2", "first", "Basic first"][..],
        ),
        (
            tokens(&["a", "b", "c"]),
            &["Bearer a", "Bearer b", "Bearer c"],
            &["Bearer", "Bearer ", "Bearer d", ""],
        ),
        (
            BearerConfig { scheme: String::new(), ..tokens(&["a b"]) },
            &["a b"],
            &["Bearer a b", "a", "A B", "a  b"],
        ),
        (
            BearerConfig { scheme: "Token".to_owned(), ..tokens(&["a"]) },
            &["Token a", "TOKEN a"],
            &["Bearer a"],
        ),
    ] {
        let authenticator = bearer(config).unwrap();
        for value in right {
            assert_eq!(authenticator.check(&authorization(value)).await, Ok(()), "{value}");
        }
        for value in wrong {
            assert_eq!(authenticator.check(&authorization(value)).await, Err(Denied::Wrong), "{value}");
        }
        assert_eq!(authenticator.check(&HeaderMap::new()).await, Err(Denied::Missing));
    }
    let other = BearerConfig { header: "X-Api-Key".to_owned(), ..tokens(&["a"]) };
    let authenticator = bearer(other).unwrap();
    assert_eq!(authenticator.check(&headers("x-api-key", "Bearer a")).await, Ok(()));
    assert_eq!(authenticator.check(&authorization("Bearer a")).await, Err(Denied::Missing));
}

#[test]
fn what_cannot_be_used_is_refused_and_not_shown() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        Some(dir.path().join(name))
    };
    let of_file = |path| BearerConfig { filename: path, ..BearerConfig::default() };
    let with = |change: fn(&mut BearerConfig)| {
        let mut config = tokens(&["hunter2"]);
        change(&mut config);
        config
    };
    for (config, problem) in [
        (BearerConfig::default(), "extensions.it: expected exactly one of token, tokens"),
        (with(|config| config.token = Some(Secret::new("b"))), "extensions.it: expected exactly one of"),
        (with(|config| config.filename = Some("f".into())), "extensions.it: expected exactly one of"),
        (tokens(&["a", "hunter2\n"]), "extensions.it.tokens.[1]: a token is of one or more visible"),
        (tokens(&[""]), "extensions.it.tokens.[0]: a token is"),
        (with(|config| config.header = "no header".to_owned()), "extensions.it.header: found \"no header\""),
        (
            of_file(Some("/nowhere/tokens".into())),
            "extensions.it.filename: cannot read /nowhere/tokens: No such",
        ),
        (of_file(file("empty", "\n \n")), "extensions.it.filename: "),
    ] {
        let refusal = bearer(config).unwrap_err();
        assert!(refusal.starts_with(problem) && !refusal.contains("hunter2"), "{refusal}");
    }
    for (path, inline, problem) in [
        (None, "", "extensions.it.htpasswd: there is no name:password"),
        (
            Some("/nowhere/passwords".into()),
            "",
            "extensions.it.htpasswd.file: cannot read /nowhere/passwords",
        ),
        (file("plain", "a:hunter2"), "", "extensions.it.htpasswd.file: "),
        (None, "a:$1$hunter2", "extensions.it.htpasswd.inline: line 1 holds a hash that is not bcrypt's"),
    ] {
        let refusal = passwords(path, inline).unwrap_err();
        assert!(refusal.starts_with(problem) && !refusal.contains("hunter2"), "{refusal}");
    }
    let missing = named(&BTreeMap::new(), &AuthConfig { authenticator: "basicauth/x".to_owned() }, "auth");
    assert!(missing.unwrap_err().to_string().starts_with("auth.authenticator: basicauth/x is not there"));
}

#[tokio::test]
async fn names_and_passwords_go_together() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("passwords");
    std::fs::write(&path, line("shop", "secret") + &line("pay", "other") + &line("both", "of the file"))
        .unwrap();
    let authenticator = passwords(Some(path), "both:of the text\nplain:with:colon").unwrap();
    for (name, password, right) in [
        ("shop", "secret", true),
        ("pay", "other", true),
        ("plain", "with:colon", true),
        ("both", "of the text", true),
        ("both", "of the file", false),
        ("shop", "other", false),
        ("shop", "", false),
        ("", "secret", false),
        ("nobody", "secret", false),
        ("plain", "with", false),
        ("shop", "sec\0ret", false),
    ] {
        // What was found out is remembered, and stays true.
        for _ in 0..2 {
            let checked = authenticator.check(&basic(name, password)).await;
            assert_eq!(checked, if right { Ok(()) } else { Err(Denied::Wrong) }, "{name}:{password}");
        }
    }
    for value in ["Basic", "Basic ", "Basic !", "Basic c2hvcA==", "Bearer c2hvcDpzZWNyZXQ="] {
        assert_eq!(authenticator.check(&authorization(value)).await, Err(Denied::Wrong), "{value}");
    }
    assert_eq!(authenticator.check(&HeaderMap::new()).await, Err(Denied::Missing));
    let only_plain = passwords(None, "plain:text").unwrap();
    assert_eq!(only_plain.check(&basic("nobody", "")).await, Err(Denied::Wrong));
}

#[tokio::test]
async fn files_are_read_again_when_they_have_changed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("secrets");
    let write = |text: &str| std::fs::write(&path, text).unwrap();

    write("old\n");
    let of_file = BearerConfig { filename: Some(path.clone()), ..BearerConfig::default() };
    let authenticator = bearer(of_file).unwrap();
    write("\n new \nnewer");
    assert!(authenticator.look());
    for (token, right) in [("old", false), ("new", true), ("newer", true), ("", false)] {
        let checked = authenticator.check(&authorization(&format!("Bearer {token}"))).await;
        assert_eq!(checked.is_ok(), right, "{token}");
    }
    write("");
    assert_eq!((authenticator.look(), authenticator.look()), (false, true), "it is told once");
    assert_eq!(authenticator.check(&authorization("Bearer new")).await, Ok(()), "those before stay in force");

    write(&line("shop", "old"));
    let authenticator = passwords(Some(path.clone()), "").unwrap();
    assert_eq!(authenticator.check(&basic("shop", "old")).await, Ok(()));
    assert_eq!(authenticator.check(&basic("shop", "new")).await, Err(Denied::Wrong));
    write(&line("shop", "new"));
    authenticator.reload();
    assert_eq!(authenticator.check(&basic("shop", "old")).await, Err(Denied::Wrong), "it is not remembered");
    assert_eq!(authenticator.check(&basic("shop", "new")).await, Ok(()));
    std::fs::remove_file(&path).unwrap();
    authenticator.reload();
    assert_eq!(authenticator.check(&basic("shop", "new")).await, Ok(()));
}

/// While one password is verified for a name, others for it are sent back, the same one waits for what comes out, and
/// other names have their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_has_one_attempt_at_a_time() {
    // About a second each in a debug build, which is what the first turn takes of the credit.
    let slow = |name: &str, password| format!("{name}:{}\n", bcrypt::hash(password, 8).unwrap());
    let authenticator = passwords(None, &(slow("shop", "right") + &slow("pay", "right"))).unwrap();
    let check = |name: &'static str, password: &str| {
        let (authenticator, headers) = (authenticator.clone(), basic(name, password));
        tokio::spawn(async move { authenticator.check(&headers).await })
    };
    let fleet: Vec<_> = (0..100).map(|_| check("shop", "right")).collect();
    let other = check("pay", "right");
    for sender in fleet {
        assert_eq!(sender.await.unwrap(), Ok(()));
    }
    assert_eq!(other.await.unwrap(), Ok(()));

    let attempts: Vec<_> = (0..100).map(|number| check("shop", &format!("wrong {number}"))).collect();
    let mut outcomes = Vec::new();
    for attempt in attempts {
        outcomes.push(attempt.await.unwrap().unwrap_err());
    }
    assert!(outcomes.contains(&Denied::Busy), "one attempt at a time: {outcomes:?}");
    assert_eq!(authenticator.check(&basic("shop", "right")).await, Ok(()), "who is known does not wait");
}
