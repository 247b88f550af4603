//! Names and passwords.
//!
//! Bcrypt is slow on purpose, and attackers could keep forebay busy with it. So it runs for one request at a time, within a small share
//! of one core ([`Verifier`]). Results are cached, and a request that has no turn in time is refused and can be retried. Unknown names
//! take as long as known ones.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};
use tokio::time::timeout;
use tracing::{info, warn};

use super::Denied;
use super::bearer::behind_scheme;
use super::config::BasicConfig;
use super::htpasswd::{self, Password};
use super::keyed::{Digest, Key};
use super::recent::Recent;
use super::verifier::Verifier;
use crate::net::Origin;
use crate::receiver::file::{Look, Unusable, Watch, fingerprint, read, read_senders};

/// Authenticates by name and password.
#[derive(Debug)]
pub(in crate::receiver) struct Basic {
    config: BasicConfig,
    /// Its key in the configuration.
    at: String,
    key: Key,
    accounts: RwLock<Arc<Accounts>>,
    verifier: Arc<Verifier>,
    /// Watches the file.
    watch: Watch,
}

/// The accounts, and cached results.
#[derive(Debug)]
struct Accounts {
    by_name: HashMap<String, Account>,
    /// For unknown names.
    stranger: Account,
    /// Wrong credentials.
    wrong: Recent,
}

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    password: Password,
    /// The right name and password, once verified.
    verified: OnceLock<Digest>,
}

/// The longest wait for a turn.
const LONGEST: Duration = Duration::from_secs(5);

impl Basic {
    pub(super) fn open(config: &BasicConfig, at: &str, verifier: Arc<Verifier>) -> Result<Self, Unusable> {
        let file = config.htpasswd.file.as_ref().map(|path| read(&file_key(at), path));
        let bytes = file.transpose()?.unwrap_or_default();
        let accounts = Accounts::read(&bytes, config, at, &HashMap::new())?;
        if accounts.by_name.is_empty() {
            return Err(no_account(at));
        }
        let accounts = RwLock::new(Arc::new(accounts));
        let watch = Watch::new(fingerprint([&bytes]));
        Ok(Self { config: config.clone(), at: at.to_owned(), key: Key::new(), accounts, verifier, watch })
    }

    /// The user by these headers of a request from `origin`.
    pub(super) async fn identify(&self, headers: &HeaderMap, origin: Origin) -> Result<Arc<str>, Denied> {
        let value = headers.get(AUTHORIZATION).ok_or(Denied::Missing)?.as_bytes();
        let decoded = behind_scheme("Basic", value).and_then(|encoded| STANDARD.decode(encoded).ok());
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Denied::Wrong)?;
        let (name, password) = text.split_once(':').ok_or(Denied::Wrong)?;
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner).clone();
        let known = accounts.by_name.get(name);
        let account = known.unwrap_or(&accounts.stranger);
        let right = match &account.password {
            Password::Plain(right) => {
                self.key.digest(right.as_bytes()) == self.key.digest(password.as_bytes())
            }
            Password::Bcrypt { hash, .. } => {
                let digest = self.key.digest(text.as_bytes());
                let verify = || {
                    let right = bcrypt::verify(password, hash).unwrap_or(false) && known.is_some();
                    accounts.remember(account, digest, right);
                    right
                };
                let cached = || accounts.cached(account, &digest);
                match cached() {
                    Some(right) => right,
                    None => {
                        let verified = self.verifier.run(origin, digest, cached, verify);
                        timeout(LONGEST, verified).await.ok().flatten().ok_or(Denied::Busy)?
                    }
                }
            }
        };
        known.filter(|_| right).map(|account| account.name.clone()).ok_or(Denied::Wrong)
    }

    /// Reads the file if it has changed; see [`Watch::look`].
    pub(super) fn look(&self) -> bool {
        let Some(path) = &self.config.htpasswd.file else { return true };
        let bytes = read_senders(&file_key(&self.at), path).map(|bytes| (fingerprint([&bytes]), bytes));
        self.watch.look(bytes, |bytes, look| {
            let before = self.accounts.read().unwrap_or_else(PoisonError::into_inner).clone();
            let accounts = Accounts::read(&bytes, &self.config, &self.at, &before.by_name)?;
            let (key, names) = (&self.at, accounts.by_name.len());
            match (htpasswd::is_empty(&bytes), look) {
                (true, Look::First) => return Err(no_account(key)),
                (true, Look::Second) => {
                    warn!(
                        key,
                        names, "the password file is empty or missing; none of its names can send any more"
                    );
                }
                (false, _) => info!(key, names, "the password file has changed and is in force"),
            }
            *self.accounts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(accounts);
            Ok(())
        })
    }

    pub(super) fn has_file(&self) -> bool {
        self.config.htpasswd.file.is_some()
    }
}

fn file_key(at: &str) -> String {
    format!("{at}.htpasswd.file")
}

fn no_account(at: &str) -> Unusable {
    let problem = "there is no name:password, neither in `file`, as `htpasswd -B` makes it, nor in `inline`";
    Unusable::new(format!("{at}.htpasswd"), problem)
}

impl Accounts {
    /// Reads the file's `bytes` and the text in the configuration. Accounts that are the same as `before` keep their cached result.
    fn read(
        bytes: &[u8],
        config: &BasicConfig,
        at: &str,
        before: &HashMap<String, Account>,
    ) -> Result<Self, Unusable> {
        let mut by_name = HashMap::new();
        if let Some(path) = &config.htpasswd.file {
            let unusable =
                |problem: String| Unusable::new(file_key(at), format!("{}: {problem}", path.display()));
            let text = str::from_utf8(bytes).map_err(|_| unusable("it is not text".to_owned()))?;
            htpasswd::parse(text, false, &mut by_name).map_err(unusable)?;
        }
        if let Some(inline) = &config.htpasswd.inline {
            let unusable = |problem| Unusable::new(format!("{at}.htpasswd.inline"), problem);
            htpasswd::parse(inline.expose(), true, &mut by_name).map_err(unusable)?;
        }
        let stranger = Account::stranger(by_name.values());
        let account = |(name, password): (String, _)| {
            let same = before.get(&name).filter(|before| before.password == password);
            let verified = same.map(|same| same.verified.clone()).unwrap_or_default();
            (name.clone(), Account { name: name.into(), password, verified })
        };
        let by_name = by_name.into_iter().map(account).collect();
        Ok(Self { by_name, stranger, wrong: Recent::default() })
    }

    /// Whether the credentials are right; `None` if that is not cached.
    fn cached(&self, account: &Account, digest: &Digest) -> Option<bool> {
        let right = account.verified.get() == Some(digest);
        (right || self.wrong.has(digest)).then_some(right)
    }

    fn remember(&self, account: &Account, digest: Digest, right: bool) {
        if right {
            let _ = account.verified.set(digest);
        } else {
            self.wrong.put(digest);
        }
    }
}

impl Account {
    /// An account that takes as much work as the others, so that the time does not reveal which names exist.
    fn stranger<'a>(others: impl Iterator<Item = &'a Password>) -> Self {
        let costs = others.filter_map(|password| match password {
            Password::Bcrypt { cost, .. } => Some(*cost),
            Password::Plain(_) => None,
        });
        let password = match costs.max() {
            Some(cost) => Password::Bcrypt { hash: format!("$2y${cost:02}${}", ".".repeat(53)), cost },
            None => Password::Plain(String::new()),
        };
        Self { name: "".into(), password, verified: OnceLock::new() }
    }
}
