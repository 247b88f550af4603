//! Tokens and passwords, right and wrong, few and many.

use std::path::PathBuf;
use std::pin::Pin;

use futures_util::FutureExt;
use http::HeaderValue;
use tempfile::TempDir;

use super::config::{BasicConfig, BearerConfig, Htpasswd};
use super::*;
use crate::values::secret::Secret;

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

/// Where those come from that the test does not tell apart.
fn here() -> Origin {
    std::net::IpAddr::from([127, 0, 0, 1]).into()
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
            assert_eq!(authenticator.check(&authorization(value), here()).await, Ok(()), "{value}");
        }
        for value in wrong {
            assert_eq!(
                authenticator.check(&authorization(value), here()).await,
                Err(Denied::Wrong),
                "{value}"
            );
        }
        assert_eq!(authenticator.check(&HeaderMap::new(), here()).await, Err(Denied::Missing));
    }
    let other = BearerConfig { header: "X-Api-Key".to_owned(), ..tokens(&["a"]) };
    let authenticator = bearer(other).unwrap();
    assert_eq!(authenticator.check(&headers("x-api-key", "Bearer a"), here()).await, Ok(()));
    assert_eq!(authenticator.check(&authorization("Bearer a"), here()).await, Err(Denied::Missing));
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
        (tokens(&["a", "hunter2\n"]), "extensions.it.tokens.[1]: a token consists of one or more visible"),
        (tokens(&[""]), "extensions.it.tokens.[0]: a token consists"),
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

/// Scenario: files of tokens and of passwords as editors of Windows save them. Promise: the first line matches as all others
/// do; UTF-16, in which none would, is refused by its name.
#[tokio::test]
async fn files_of_windows_editors_have_their_first_line() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    let open_tokens = || bearer(BearerConfig { filename: Some(path.clone()), ..BearerConfig::default() });
    std::fs::write(&path, "\u{feff}first \r\n\r\n second\r\n").unwrap();
    let tokens = open_tokens().unwrap();
    for (token, is_known) in [("first", true), ("second", true), ("\u{feff}first", false), ("third", false)] {
        let known = tokens.identify(&authorization(&format!("Bearer {token}")), here()).await;
        assert_eq!(known.is_ok(), is_known, "{token}");
    }
    std::fs::write(
        &path,
        format!("\u{feff}{}{}", line("shop", "a").replace('\n', " \r\n"), line("pay", "b")),
    )
    .unwrap();
    let accounts = passwords(Some(path.clone()), "").unwrap();
    for (name, password) in [("shop", "a"), ("pay", "b")] {
        assert!(accounts.identify(&basic(name, password), here()).await.is_ok(), "{name}");
    }
    let utf16: Vec<u8> = "\u{feff}first\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(&path, utf16).unwrap();
    for refusal in [open_tokens().unwrap_err(), passwords(Some(path.clone()), "").unwrap_err()] {
        assert!(refusal.ends_with("file: it is UTF-16; save the file as UTF-8"), "{refusal}");
    }
}

#[test]
fn a_line_of_a_token_file_is_a_token_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tokens");
    for line in ["# of the shop", "Bearer abc", "\"abc\"", "'abc'", "abc def"] {
        std::fs::write(&path, format!("good\n{line}\n")).unwrap();
        let config = BearerConfig { filename: Some(path.clone()), ..BearerConfig::default() };
        let refusal = bearer(config).unwrap_err();
        assert!(refusal.contains("line 2: a line is a token and nothing else"), "{line}: {refusal}");
    }
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
            let checked = authenticator.check(&basic(name, password), here()).await;
            assert_eq!(checked, if right { Ok(()) } else { Err(Denied::Wrong) }, "{name}:{password}");
        }
    }
    for value in ["Basic", "Basic ", "Basic !", "Basic c2hvcA==", "Bearer c2hvcDpzZWNyZXQ="] {
        assert_eq!(authenticator.check(&authorization(value), here()).await, Err(Denied::Wrong), "{value}");
    }
    assert_eq!(authenticator.check(&HeaderMap::new(), here()).await, Err(Denied::Missing));
    let only_plain = passwords(None, "plain:text").unwrap();
    assert_eq!(only_plain.check(&basic("nobody", ""), here()).await, Err(Denied::Wrong));
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
        let checked = authenticator.check(&authorization(&format!("Bearer {token}")), here()).await;
        assert_eq!(checked.is_ok(), right, "{token}");
    }
    write("new\n\u{e9}");
    assert_eq!((authenticator.look(), authenticator.look()), (false, true), "it is told once");
    assert_eq!(
        authenticator.check(&authorization("Bearer new"), here()).await,
        Ok(()),
        "those before stay in force"
    );

    write(&line("shop", "old"));
    let authenticator = passwords(Some(path.clone()), "").unwrap();
    assert_eq!(authenticator.check(&basic("shop", "old"), here()).await, Ok(()));
    assert_eq!(authenticator.check(&basic("shop", "new"), here()).await, Err(Denied::Wrong));
    write(&line("shop", "new"));
    authenticator.reload();
    assert_eq!(
        authenticator.check(&basic("shop", "old"), here()).await,
        Err(Denied::Wrong),
        "it is not remembered"
    );
    assert_eq!(authenticator.check(&basic("shop", "new"), here()).await, Ok(()));
}

/// An editor empties a file before it writes it, so that one look is not enough.
#[tokio::test]
async fn a_file_that_is_emptied_or_deleted_revokes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("secrets");
    let of_file = BearerConfig { filename: Some(path.clone()), ..BearerConfig::default() };
    let empty: fn(&std::path::Path) = |path| std::fs::write(path, "\n").unwrap();
    for revoke in [empty, |path| std::fs::remove_file(path).unwrap()] {
        for (text, right) in
            [("token".to_owned(), authorization("Bearer token")), (line("a", "b"), basic("a", "b"))]
        {
            std::fs::write(&path, &text).unwrap();
            let authenticator = match text.as_str() {
                "token" => bearer(of_file.clone()).unwrap(),
                _ => passwords(Some(path.clone()), "inline:text").unwrap(),
            };
            revoke(&path);
            assert!(!authenticator.look());
            assert_eq!(authenticator.check(&right, here()).await, Ok(()));
            assert!(authenticator.look());
            assert_eq!(authenticator.check(&right, here()).await, Err(Denied::Wrong));
            let inline = authenticator.check(&basic("inline", "text"), here()).await;
            assert_eq!(inline.is_ok(), text != "token", "the file says nothing of it");
            std::fs::write(&path, &text).unwrap();
            assert!(authenticator.look());
            assert_eq!(authenticator.check(&right, here()).await, Ok(()), "it may send again");
        }
    }
}

/// As many guesses for `name` as are taken; all of these wait.
fn guesses<'a>(
    authenticator: &'a Authenticator,
    name: &'a str,
) -> Vec<Pin<Box<impl Future<Output = Result<(), Denied>> + use<'a>>>> {
    let (mut waiting, mut number) = (Vec::new(), 0);
    loop {
        number += 1;
        let headers = basic(name, &format!("guess {number}"));
        let mut guess = Box::pin(async move { authenticator.check(&headers, here()).await });
        match guess.as_mut().now_or_never() {
            // At first there is time for them.
            Some(Err(Denied::Wrong)) => {}
            Some(sent_back) => {
                assert_eq!(sent_back, Err(Denied::Busy));
                return waiting;
            }
            None => waiting.push(guess),
        }
    }
}

/// Nobody who was verified waits, and of those who were not, the one that sends the same again comes before all guesses,
/// though all of them are for its name and from its address.
#[tokio::test]
async fn guesses_keep_nobody_out() {
    let authenticator = passwords(None, &(line("shop", "right") + &line("pay", "right"))).unwrap();
    assert_eq!(authenticator.check(&basic("shop", "right"), here()).await, Ok(()));
    let waiting = guesses(&authenticator, "pay");
    assert!((1..=64).contains(&waiting.len()), "{} wait", waiting.len());
    let check = async |name, password| authenticator.check(&basic(name, password), here()).await;
    assert_eq!(check("shop", "right").now_or_never(), Some(Ok(())));
    assert_eq!(check("shop", "wrong").now_or_never(), Some(Err(Denied::Busy)), "one bound for all names");
    assert_eq!(check("pay", "right").now_or_never(), Some(Err(Denied::Busy)));
    let again = tokio::time::timeout(Duration::from_secs(60), check("pay", "right")).await;
    assert_eq!(again, Ok(Ok(())));
    drop(waiting);
}

#[tokio::test]
async fn a_line_that_stays_is_known_after_a_change_of_the_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("passwords");
    let (shop, pay) = (line("shop", "right"), line("pay", "old"));
    std::fs::write(&path, shop.clone() + &pay).unwrap();
    let authenticator = passwords(Some(path.clone()), "").unwrap();
    for (name, password) in [("shop", "right"), ("pay", "old")] {
        assert_eq!(authenticator.check(&basic(name, password), here()).await, Ok(()));
    }
    std::fs::write(&path, shop + &line("pay", "new")).unwrap();
    authenticator.reload();
    let waiting = guesses(&authenticator, "shop");
    let known = authenticator.check(&basic("shop", "right"), here()).now_or_never();
    assert_eq!(known, Some(Ok(())));
    drop(waiting);
    assert_eq!(
        authenticator.check(&basic("pay", "old"), here()).await,
        Err(Denied::Wrong),
        "its line has changed"
    );
}
