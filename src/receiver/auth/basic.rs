//! Names and passwords.
//!
//! Bcrypt is slow on purpose, so that it is what an attacker would have forebay do all day. So it runs one at a time and
//! for a small share of one core ([`Verifier`]); a name has one attempt under way; what it was found out is remembered;
//! and whoever finds no turn is told to come again. A name that nobody has takes the same way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};
use tokio::time::timeout;
use tracing::info;

use super::Denied;
use super::bearer::behind_scheme;
use super::config::BasicConfig;
use super::htpasswd::{self, Password};
use super::keyed::{Digest, Key};
use super::known::Known;
use super::verifier::Verifier;
use crate::receiver::file::{Unusable, Watch, fingerprint, read};

/// Knows names and passwords.
#[derive(Debug)]
pub(super) struct Basic {
    config: BasicConfig,
    /// Where the configuration has it.
    at: String,
    key: Key,
    accounts: RwLock<Arc<Accounts>>,
    verifier: Arc<Verifier>,
    /// Of the file.
    watch: Watch,
}

/// Who may send, and what was found out of it.
#[derive(Debug)]
struct Accounts {
    by_name: HashMap<String, Account>,
    /// Whoever has another name.
    stranger: Account,
    known: Known,
}

#[derive(Debug)]
struct Account {
    password: Password,
    attempt: Mutex<Attempt>,
}

/// The password that is being verified for a name, and how many requests have it.
#[derive(Debug, Default)]
struct Attempt {
    digest: Digest,
    requests: usize,
}

/// Requests that wait for one attempt, as a fleet of senders does that has just started.
const MOST_WAITING: usize = 256;
/// The longest wait for a turn.
const LONGEST: Duration = Duration::from_secs(5);

impl Basic {
    pub(super) fn open(config: &BasicConfig, at: &str, verifier: Arc<Verifier>) -> Result<Self, Unusable> {
        let bytes = read_file(config, at)?;
        let accounts = Accounts::read(&bytes, config, at)?;
        let accounts = RwLock::new(Arc::new(accounts));
        let watch = Watch::new(fingerprint([&bytes]));
        Ok(Self { config: config.clone(), at: at.to_owned(), key: Key::new(), accounts, verifier, watch })
    }

    /// Whether a request with these headers may be sent.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let value = headers.get(AUTHORIZATION).ok_or(Denied::Missing)?.as_bytes();
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner).clone();
        let digest = self.key.digest(value);
        if let Some(right) = accounts.known.get(&digest) {
            return right.then_some(()).ok_or(Denied::Wrong);
        }
        let decoded = behind_scheme("Basic", value).and_then(|encoded| STANDARD.decode(encoded).ok());
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Denied::Wrong)?;
        let (name, password) = text.split_once(':').ok_or(Denied::Wrong)?;
        let known = accounts.by_name.get(name);
        let account = known.unwrap_or(&accounts.stranger);
        let right = match &account.password {
            Password::Plain(right) => {
                self.key.digest(right.as_bytes()) == self.key.digest(password.as_bytes())
            }
            Password::Bcrypt { hash, .. } => {
                let verify = || bcrypt::verify(password, hash).unwrap_or(false) && known.is_some();
                self.find_out(&accounts, account, digest, verify).await?
            }
        };
        (right && known.is_some()).then_some(()).ok_or(Denied::Wrong)
    }

    /// Has `verify` find out whether the credentials of this digest are right, once for all requests that have them.
    async fn find_out(
        &self,
        accounts: &Accounts,
        account: &Account,
        digest: Digest,
        verify: impl FnOnce() -> bool,
    ) -> Result<bool, Denied> {
        let _seat = Seat::take(account, digest).ok_or(Denied::Busy)?;
        // It is known before the next one has its turn.
        let work = || {
            let right = verify();
            accounts.known.put(digest, right);
            right
        };
        let found = self.verifier.run(|| accounts.known.get(&digest), work);
        timeout(LONGEST, found).await.map_err(|_| Denied::Busy)
    }

    /// Reads the file where it has changed; see [`Watch::look`].
    pub(super) fn look(&self) -> bool {
        if !self.has_file() {
            return true;
        }
        let bytes = read_file(&self.config, &self.at).map(|bytes| (fingerprint([&bytes]), bytes));
        self.watch.look(bytes, |bytes| {
            let accounts = Accounts::read(&bytes, &self.config, &self.at)?;
            let names = accounts.by_name.len();
            info!(key = self.at, names, "the file of passwords has changed; its passwords are taken");
            *self.accounts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(accounts);
            Ok(())
        })
    }

    pub(super) fn has_file(&self) -> bool {
        self.config.htpasswd.file.is_some()
    }
}

/// What is in the file; nothing where there is none.
fn read_file(config: &BasicConfig, at: &str) -> Result<Vec<u8>, Unusable> {
    let path = config.htpasswd.file.as_ref();
    path.map_or(Ok(Vec::new()), |path| read(&format!("{at}.htpasswd.file"), path))
}

impl Accounts {
    /// Of the file's `bytes` and the text in the configuration.
    fn read(bytes: &[u8], config: &BasicConfig, at: &str) -> Result<Self, Unusable> {
        let mut by_name = HashMap::new();
        if let Some(path) = &config.htpasswd.file {
            let unusable = |problem: String| {
                Unusable::new(format!("{at}.htpasswd.file"), format!("{}: {problem}", path.display()))
            };
            let text = str::from_utf8(bytes).map_err(|_| unusable("it is not text".to_owned()))?;
            htpasswd::parse(text, false, &mut by_name).map_err(unusable)?;
        }
        if let Some(inline) = &config.htpasswd.inline {
            let unusable = |problem| Unusable::new(format!("{at}.htpasswd.inline"), problem);
            htpasswd::parse(inline.expose(), true, &mut by_name).map_err(unusable)?;
        }
        if by_name.is_empty() {
            let problem =
                "there is no name:password, neither in `file`, as `htpasswd -B` makes it, nor in `inline`";
            return Err(Unusable::new(format!("{at}.htpasswd"), problem));
        }
        let stranger = Account::stranger(by_name.values());
        let by_name = by_name.into_iter().map(|(name, password)| (name, Account::new(password))).collect();
        Ok(Self { by_name, stranger, known: Known::default() })
    }
}

impl Account {
    fn new(password: Password) -> Self {
        Self { password, attempt: Mutex::default() }
    }

    /// One that is as much work as the others.
    fn stranger<'a>(others: impl Iterator<Item = &'a Password>) -> Self {
        let costs = others.filter_map(|password| match password {
            Password::Bcrypt { cost, .. } => Some(*cost),
            Password::Plain(_) => None,
        });
        Self::new(match costs.max() {
            Some(cost) => Password::Bcrypt { hash: format!("$2y${cost:02}${}", ".".repeat(53)), cost },
            None => Password::Plain(String::new()),
        })
    }

    fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's part in an attempt.
struct Seat<'a>(&'a Account);

impl<'a> Seat<'a> {
    /// `None` where another password is being verified for the name, or too many wait for this one.
    fn take(account: &'a Account, digest: Digest) -> Option<Self> {
        let mut attempt = account.attempt();
        let free = attempt.requests == 0 || (attempt.digest == digest && attempt.requests < MOST_WAITING);
        free.then(|| {
            *attempt = Attempt { digest, requests: attempt.requests + 1 };
            Self(account)
        })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.attempt().requests -= 1;
    }
}
