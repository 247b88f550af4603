//! The Debian package, made by cargo-deb and installed by dpkg on this machine's system, of which only a scratch layer is
//! written to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::postgres::run_name;
use tempfile::TempDir;

use crate::tools::{ROOT, is_root, run, succeeds, tool};

const BINARY: &str = env!("CARGO_BIN_EXE_forebay");

/// Builds the package of the tests' own binary.
fn build(dir: &Path) -> PathBuf {
    // Where cargo-deb looks for it, and without the symbols, which take ten times the room.
    let binary = dir.join("target/release/forebay");
    fs::create_dir_all(binary.parent().unwrap()).unwrap();
    run("strip", ["-o", binary.to_str().unwrap(), BINARY]);
    let package = dir.join("forebay.deb");
    succeeds(
        Command::new(env!("CARGO"))
            .args(["deb", "--no-build", "--no-strip", "--fast", "--locked", "--offline", "--output"])
            .arg(&package)
            .env("CARGO_TARGET_DIR", dir.join("target")),
    );
    package
}

/// What is done with the package in a system of its own; `$1` is the package.
const LIFE: &str = r#"
set -eu
# No service may start here.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
say() { echo "== $*"; }
enabled=/etc/systemd/system/multi-user.target.wants/forebay.service

say install
dpkg --install --force-confold "$1"
stat -c '%a %U %n' /usr/bin/forebay /etc/forebay/config.yaml /etc/forebay/secrets.yaml /etc/default/forebay
test -L "$enabled"
man forebay | col -b | grep -q 'Exit status'
man forebay-health | col -b | grep -q accepting
systemd-analyze verify forebay.service

say run
/usr/bin/forebay --version
arguments='--config /etc/forebay/config.yaml --config /etc/forebay/secrets.yaml'
/usr/bin/forebay validate $arguments
/usr/bin/forebay print-config $arguments | grep 'dsn:'
variable=$(sed -n 's/^#\(LOG_BUFFER_STORAGE_DIRECTORY=\)/\1/p' /etc/default/forebay)
env "$variable" /usr/bin/forebay validate $arguments
/usr/bin/forebay $arguments 2>/messages &
until /usr/bin/forebay health --at-least accepting $arguments 2>/dev/null; do
    kill -0 $! || { cat /messages; exit 1; }
    sleep 0.1
done
kill -TERM $!
wait $!

say upgrade
echo '# kept' >>/etc/forebay/config.yaml
dpkg --install --force-confold "$1"
grep -q '^# kept$' /etc/forebay/config.yaml
test -L "$enabled"

say remove
dpkg --remove forebay
test ! -e /usr/bin/forebay
grep -q '^# kept$' /etc/forebay/config.yaml

say purge
dpkg --purge forebay
test ! -e /etc/forebay
test ! -e /etc/default/forebay
test ! -e "$enabled"
say done
"#;

/// Scenario: the package is made, and a system installs it, upgrades it with a changed configuration, removes and purges
/// it. Guarantee: binary, configuration, unit and manual are where they belong and work, on the ports that they name; the unit is enabled; a changed
/// configuration outlives upgrade and removal; a purge leaves nothing.
#[test]
fn the_package_is_installed_upgraded_and_purged() {
    if !is_root()
        || ["cargo-deb", "dpkg", "unshare", "man", "systemd-analyze"].iter().any(|name| tool(name).is_none())
    {
        return;
    }
    // An overlay cannot lie on one, which /tmp may be on where it is a container's.
    let dir = TempDir::with_prefix_in(format!("{}-", run_name()), Path::new(ROOT).join("target")).unwrap();
    let package = build(dir.path());
    let lintian = tool("lintian").map(|lintian| {
        let tags = "initial-upload-closes-no-bugs,no-changelog,maintainer-address-malformed";
        run(
            lintian,
            ["--allow-root", "--fail-on", "error", "--suppress-tags", tags, package.to_str().unwrap()],
        )
    });
    println!("{}", lintian.unwrap_or_default());
    let script = dir.path().join("life");
    fs::write(&script, LIFE).unwrap();
    for folder in ["upper", "work", "root"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let inside = r#"
        cd "$1" && mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
        mount -t proc proc root/proc && mount --bind /dev root/dev && ip link set lo up
        cp forebay.deb life root/ && exec chroot root env -i PATH="$PATH" sh /life /forebay.deb
    "#;
    let said = run(
        "unshare",
        ["--mount", "--pid", "--net", "--fork", "sh", "-ec", inside, "sh", dir.path().to_str().unwrap()],
    );
    println!("{said}");
    for line in [
        "755 root /usr/bin/forebay",
        "644 root /etc/forebay/config.yaml",
        "600 root /etc/forebay/secrets.yaml",
        "644 root /etc/default/forebay",
        "the configuration is valid: OTLP/gRPC on 127.0.0.1:4317, OTLP/HTTP on 127.0.0.1:4318 -> 10000 records -> \
         schema otel over 2 connections",
        "the configuration is valid: OTLP/gRPC on 127.0.0.1:4317, OTLP/HTTP on 127.0.0.1:4318 -> 10000 records in memory, \
         10GiB in /var/lib/forebay/queue -> schema otel over 2 connections",
        "== done",
    ] {
        assert!(said.lines().any(|said| said == line), "{line:?} is not in:\n{said}");
    }
    assert!(!said.contains("warning"), "{said}");
}
