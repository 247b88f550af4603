//! Parses lines of names and passwords.

use std::collections::HashMap;

use bcrypt::HashParts;

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Password {
    Bcrypt { hash: String, cost: u32 },
    Plain(String),
}

/// The most bcrypt cost, which takes a second or two; each step doubles it.
pub(super) const MOST_COST: u32 = 14;

/// Reads `text` into `accounts`; the last line of a name counts. The error has the number of the line and not its text.
pub(super) fn parse(text: &str, plain: bool, accounts: &mut HashMap<String, Password>) -> Result<(), String> {
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, password) =
            line.split_once(':').ok_or_else(|| format!("line {} is not name:password", index + 1))?;
        let password = read(password, plain).map_err(|problem| format!("line {} {problem}", index + 1))?;
        accounts.insert(name.to_owned(), password);
    }
    Ok(())
}

/// Whether a file has no account.
pub(super) fn is_empty(file: &[u8]) -> bool {
    let mut lines = file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.all(|line| line.is_empty() || line.starts_with(b"#"))
}

fn read(password: &str, plain: bool) -> Result<Password, String> {
    let make = "make it with `htpasswd -B`";
    if ["$2a$", "$2b$", "$2y$"].iter().any(|known| password.starts_with(known)) {
        let parts: HashParts = password.parse().map_err(|_| format!("holds a damaged hash; {make}"))?;
        let cost = parts.get_cost();
        if cost > MOST_COST {
            return Err(format!("has a cost of {cost}, more than {MOST_COST}; verifying it takes seconds"));
        }
        return Ok(Password::Bcrypt { hash: password.to_owned(), cost });
    }
    match password {
        "" => Err("holds no password".to_owned()),
        hash if hash.starts_with(['$', '{']) => Err(format!("holds a hash that is not bcrypt's; {make}")),
        _ if !plain => Err(format!("holds a password that is not hashed by bcrypt; {make}")),
        text => Ok(Password::Plain(text.to_owned())),
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(crate::values::secret::REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_hashes() {
        let hash = bcrypt::hash("secret", 4).unwrap().replace("$2b$", "$2y$");
        let mut accounts = HashMap::new();
        parse(&format!("# senders\n\nshop:{hash}\r\n  pay:{hash}\nshop:{hash}"), false, &mut accounts)
            .unwrap();
        assert_eq!(accounts.len(), 2);
        assert_eq!(accounts["shop"], Password::Bcrypt { hash, cost: 4 });
        parse("shop:with:colons", true, &mut accounts).unwrap();
        assert_eq!(accounts["shop"], Password::Plain("with:colons".to_owned()));
        assert_eq!(format!("{accounts:?}").matches("[REDACTED]").count(), 2);
    }

    #[test]
    fn what_is_no_hash_of_bcrypt_is_refused_by_its_line() {
        let costly = bcrypt::hash("secret", 4).unwrap().replace("$04$", "$15$");
        for (line, problem) in [
            ("shop", "line 2 is not name:password"),
            ("shop:", "line 2 holds no password"),
            ("shop:hunter2", "line 2 holds a password that is not hashed by bcrypt"),
            ("shop:$apr1$hunter2$x", "line 2 holds a hash that is not bcrypt's"),
            ("shop:{SHA}hunter2", "line 2 holds a hash that is not bcrypt's"),
            ("shop:$2y$10$hunter2", "line 2 holds a damaged hash"),
            (&format!("shop:{costly}"), "line 2 has a cost of 15"),
        ] {
            let refusal = parse(&format!("\n{line}"), false, &mut HashMap::new()).unwrap_err();
            assert!(refusal.starts_with(problem) && !refusal.contains("hunter2"), "{refusal}");
        }
        // Even with plain passwords allowed, a hash of another kind is not read as one.
        assert!(parse("shop:$apr1$hunter2$x", true, &mut HashMap::new()).is_err());
    }
}
