//! deploy/Dockerfile: what a linter says of it, that its layer of dependencies holds what cargo needs, and forebay run
//! with its user, its command line, its files and nothing else, within the limits that deploy/compose.yaml sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::forebay::{Forebay, arguments, command_of};
use support::postgres::database;
use support::records::numbered_request;
use support::{eventually, stored};
use tempfile::TempDir;

use crate::tools::{file, is_root, outcome, own_tool, run, succeeds, text, tool};

const BINARY: &str = env!("CARGO_BIN_EXE_forebay");
/// The libraries of gcr.io/distroless/cc-debian12 that a binary of Rust may need.
const LIBRARIES: &[&str] = &["linux-vdso.so.1", "libgcc_s.so.1", "libm.so.6", "libc.so.6"];
/// `mem_limit` of deploy/compose.yaml.
const MEMORY: u64 = 512 << 20;

/// The Dockerfile's instructions, each in one line.
fn instructions() -> Vec<(String, String)> {
    let text = text("deploy/Dockerfile");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    text.lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// What the last instruction of that name says.
fn last(name: &str) -> String {
    instructions().into_iter().rfind(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// An instruction's command, as the list that it is.
fn words(instruction: &str) -> Vec<String> {
    let list = &instruction[instruction.find('[').expect("a list")..];
    serde_json::from_str(list).unwrap_or_else(|error| panic!("{error}: {list}"))
}

/// Scenario: hadolint reads the Dockerfile. Guarantee: it has nothing to say about it.
#[test]
fn hadolint_finds_nothing_amiss() {
    let Some(hadolint) = own_tool("python/bin/hadolint") else { return };
    assert_eq!(run(hadolint, ["--failure-threshold", "style", "deploy/Dockerfile"]), "");
}

/// Scenario: the layer of the dependencies is built, with the manifest and no source. Guarantee: cargo finds every target
/// that the manifest names, and once the sources are there, those are what is built.
#[test]
fn the_dependencies_have_a_layer_of_their_own() {
    let dir = TempDir::new().unwrap();
    let all = instructions();
    let at =
        |what: &str| all.iter().position(|(name, rest)| format!("{name} {rest}").starts_with(what)).unwrap();
    let (manifest, layer, sources) =
        (at("COPY Cargo.toml Cargo.lock"), at("RUN --mount=type=cache"), at("COPY . ."));
    assert!(manifest < layer && layer < sources, "the dependencies come before the sources");
    let support = "tests/support/Cargo.toml";
    let copied =
        all[manifest..layer].iter().any(|(_, rest)| rest == "tests/support/Cargo.toml tests/support/");
    assert!(copied, "cargo reads the manifest of the tests' crate as well");
    fs::create_dir_all(dir.path().join("tests/support")).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", support] {
        fs::copy(file(name), dir.path().join(name)).unwrap();
    }
    let (_, layer) = all[layer].1.split_once("sharing=locked").unwrap();
    let layer = layer.replace(
        "cargo build --release --locked",
        "cargo tree --locked --offline --quiet >tree && cargo metadata --locked --offline --no-deps --format-version 1",
    );
    let metadata = succeeds(
        Command::new("bash")
            .arg("-euo")
            .arg("pipefail")
            .arg("-c")
            .arg(format!("cd {} && {layer}", dir.path().display())),
    );
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).unwrap_or_else(|error| panic!("{error}: {metadata}"));
    for target in metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|package| package["targets"].as_array().unwrap())
    {
        let path = Path::new(target["src_path"].as_str().unwrap());
        assert!(path.is_file(), "{target}: a target without a file");
    }
    let ignored = text(".dockerignore");
    let context: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for needed in
        ["Cargo.toml", "Cargo.lock", "otel-config.yaml", "src", support, "deploy/docker/config.yaml"]
    {
        assert!(context.contains(&needed) && file(needed).exists(), "{needed} is not in the context");
    }
}

/// A control group with the memory that the container may have. It goes with the test.
struct Group(PathBuf);

impl Group {
    /// In either version of control groups.
    fn new() -> Self {
        let (place, limit) = if Path::new("/sys/fs/cgroup/memory").is_dir() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.max")
        };
        let dir = Path::new(place).join(format!("forebay-test-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(limit), MEMORY.to_string()).unwrap();
        Self(dir)
    }

    /// The bytes that were taken at most.
    fn peak(&self) -> u64 {
        let files = ["memory.max_usage_in_bytes", "memory.peak"];
        let peak = files.iter().find_map(|name| fs::read_to_string(self.0.join(name)).ok());
        peak.expect("the kernel counts").trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was in it may have yet to leave.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// The container's command line up to what runs in it: a root that has the image's files, read-only, its user, no
/// capability, processes of its own of which it is the first, and a volume for its queue.
fn container(group: &Group, bwrap: &Path, config: &Path, volume: &Path) -> Vec<String> {
    let user = last("USER");
    let (uid, gid) = user.split_once(':').expect("a user and a group");
    assert!(uid.parse::<u32>().expect("a number, by which Kubernetes knows that it is not root") >= 1000);
    let enter = r#"echo $$ >"$1/cgroup.procs"; shift; exec "$@""#;
    let mut words: Vec<String> = ["sh", "-c", enter, "sh"].map(str::to_owned).into();
    words.push(group.0.display().to_string());
    let drop = "--clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all";
    words.extend(format!("setpriv --reuid={uid} --regid={gid} {drop}").split(' ').map(str::to_owned));
    words.push(bwrap.display().to_string());
    let bind = |from: &str, to: &str| ["--ro-bind".to_owned(), from.to_owned(), to.to_owned()];
    words.extend(bind(BINARY, "/usr/bin/forebay"));
    words.extend(bind(config.to_str().unwrap(), "/etc/forebay/config.yaml"));
    words.extend(["--bind", volume.to_str().unwrap(), "/var/lib/forebay"].map(str::to_owned));
    words.extend(bind("/etc/ssl/certs", "/etc/ssl/certs"));
    words.extend(bind("/sys/fs/cgroup", "/sys/fs/cgroup"));
    for line in run("ldd", [BINARY]).lines() {
        let mut parts = line.split_whitespace();
        let name = parts.next().unwrap();
        let loader = name.starts_with("/lib64/ld-linux") || name.starts_with("/lib/ld-linux");
        assert!(loader || LIBRARIES.contains(&name), "{name} is not in the image");
        if let Some(path) = parts.find(|part| part.starts_with('/')).or(loader.then_some(name)) {
            words.extend(bind(&fs::canonicalize(path).unwrap().display().to_string(), path));
        }
    }
    let rest = "--proc /proc --dev /dev --remount-ro / --unshare-user --unshare-pid --unshare-ipc --unshare-uts \
                --cap-drop ALL --die-with-parent --as-pid-1 --chdir /";
    words.extend(rest.split_whitespace().map(str::to_owned));
    words
}

/// The process of which `pid` is the only child's number outside of the container.
fn child_of(pid: u32) -> String {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().to_owned()
}

/// Scenario: the image's command line runs in the image's files, as its user, read-only, without capabilities, within 512
/// MiB, as the first process; 20,000 records are sent, its health is asked as Docker asks, and it is asked to end as Docker
/// asks. Guarantee: the limits are in force, every record is stored once, it ends by itself with status 0.
#[tokio::test(flavor = "multi_thread")]
async fn it_runs_within_the_limits_of_its_container() {
    let (Some(bwrap), true) = (tool("bwrap"), is_root()) else { return };
    let database = database().await;
    let dir = TempDir::new_in("/tmp").unwrap();
    // The image's user has to be able to read what the image has.
    let config = dir.path().join("config.yaml");
    fs::copy(file("deploy/docker/config.yaml"), &config).unwrap();
    for path in [dir.path(), &config] {
        run("chmod", ["a+rX", path.to_str().unwrap()]);
    }
    let volume = dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    run("chown", [&last("USER"), volume.to_str().unwrap()]);
    let group = Group::new();
    let container = container(&group, &bwrap, &config, &volume);
    let mut command = command_of(&container[0]);
    command.args(&container[1..]).args(words(&last("ENTRYPOINT"))).args(words(&last("CMD")));
    command.args(arguments(&[])).env("DATABASE_URL", database.dsn_by_way_of(database.address()));
    // Nothing is to be shed here, however slow the machine is.
    command.env("LOG_BUFFER_MAX_ENTRIES", "20000");
    command.env("LOG_BUFFER_STORAGE_DIRECTORY", "/var/lib/forebay/queue");
    let mut forebay = Forebay::spawn(command).await;
    forebay.becomes_ready().await;
    let pid = child_of(forebay.pid());

    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        "Uid:\t65532\t65532\t65532\t65532",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.lines().any(|found| found == line), "{line:?} is not in:\n{status}");
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().starts_with("ro,"), "{root}");

    let sender = forebay.sender().await;
    for first in (0..20_000).step_by(500) {
        sender.send(numbered_request(first..first + 500)).await.unwrap();
    }
    forebay.settles().await;

    let check = words(&last("HEALTHCHECK"));
    assert_eq!(check[0], "/usr/bin/forebay");
    let set = format!("extensions.health_check.endpoint={}", forebay.health_address());
    let user = last("USER");
    let (uid, gid) = user.split_once(':').unwrap();
    let inside = ["--target", &pid, "--user", "--mount", "--pid", "--setuid", uid, "--setgid", gid, "--"];
    let mut health = Command::new("nsenter");
    // As with docker exec, the environment is the container's.
    health.args(inside).args(&check).args(["--set", &set]).env("DATABASE_URL", "host=nowhere");
    let answer = succeeds(&mut health);
    assert!(answer.contains("Server available"), "{answer}");

    run("kill", ["-TERM", &pid]);
    assert_eq!(forebay.ends().await.code(), Some(0), "{:#?}", forebay.said());
    assert!(!outcome(&mut health).0, "nobody is there any more");
    stored(&database).await.assert_holds_each_once(std::slice::from_ref(&(0..20_000)));
    println!("{} MiB were taken at most", group.peak() >> 20);
    assert!(group.peak() < MEMORY);
    eventually("the group is empty", || async {
        fs::read_to_string(group.0.join("cgroup.procs")).unwrap().is_empty().then_some(())
    })
    .await;
}
