//! What a service manager is told, by systemd's protocol: a datagram to the socket that `NOTIFY_SOCKET` names. Where
//! nobody has set it, nothing is said, and forebay runs as it does by hand.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// Records are taken: whoever waits for forebay may go on.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again, until the next [`ready`].
pub fn reloading() {
    // By this time systemd tells an answer to its own request from an earlier one.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often a sign of life is due, where one is asked for: twice in the time after which systemd gives forebay up.
pub fn sign_of_life_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

/// Something still runs. Whoever calls this should have just been scheduled for it.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager could not be told of a change");
    }
}
