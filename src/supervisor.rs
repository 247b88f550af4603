//! Notifies a service manager by systemd's protocol: a datagram to the socket that `NOTIFY_SOCKET` names. If that is not set,
//! nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// forebay accepts records.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again, until the next [`ready`].
pub fn reloading() {
    // The time tells systemd whether this answers its own request or an earlier one.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The shutdown has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often a watchdog sign is due, if systemd wants one: twice in the watchdog's time.
pub fn sign_of_life_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

/// Sends a watchdog sign. The calling task should have just been scheduled.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager could not be told of a change");
    }
}
