//! A network link between forebay and PostgreSQL that goes down: no end of a connection, no answer, nothing. forebay has a
//! network of its own for that, which takes root. What must hold is what holds for the other silences, in `network.rs`.

use std::process::Command;
use std::time::Duration;

use forebay::embedded::Stop;
use support::forebay::{Forebay, arguments, command};
use support::postgres::{Database, Postgres, run_name};
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::chance::either;
use crate::inject::sessions;
use crate::scene::Scene;
use crate::schema::{plain_role, set_access};

const SECOND: Duration = Duration::from_secs(1);

/// forebay's side: one link leads to the server, which has the loopback address on it, and one to the senders.
const SET_UP: &str = r#"
ip netns add "$namespace"
link() {
    ip link add "$1" type veth peer name eth0 netns "$namespace"
    ip -n "$namespace" link set eth0 name "$2"
    ip addr add "$net.$3/30" dev "$1"
    ip -n "$namespace" addr add "$net.$4/30" dev "$2"
    ip link set "$1" up
    ip -n "$namespace" link set "$2" up
}
link "$server" server 1 2
link "$senders" senders 5 6
echo 1 >"/proc/sys/net/ipv4/conf/$server/route_localnet"
ip netns exec "$namespace" sh -c 'echo 1 >/proc/sys/net/ipv4/conf/server/route_localnet'
ip -n "$namespace" route add 127.0.0.1/32 via "$net.1" src "$net.2"
"#;

/// forebay's network. It ends when this is dropped, or with the run.
struct Network {
    namespace: String,
    /// The first three bytes of its addresses.
    net: String,
    server: String,
}

impl Network {
    /// The network, or the reason why it cannot be had.
    fn set_up() -> Result<Self, String> {
        let number = format!("{:04x}", fastrand::u16(..));
        let network = Self {
            namespace: run_name(),
            net: format!("10.{}.{}", fastrand::u8(..), fastrand::u8(..)),
            server: format!("forebay{number}a"),
        };
        let mut script = Command::new("sh");
        script.args(["-ec", SET_UP]).env("namespace", &network.namespace).env("net", &network.net);
        let made = script.env("server", &network.server).env("senders", format!("forebay{number}b")).output();
        let made = made.map_err(|error| error.to_string())?;
        let reason = || String::from_utf8_lossy(&made.stderr).trim().to_owned();
        if made.status.success() { Ok(network) } else { Err(reason()) }
    }

    /// The link to the server goes down, or comes back.
    fn link(&self, state: &str) {
        let set = Command::new("ip").args(["link", "set", &self.server, state]).status().expect("ip");
        assert!(set.success(), "the link goes {state}");
    }

    /// A forebay in it.
    async fn forebay(&self, dsn: &str, sets: &[&str]) -> Forebay {
        let here = format!("{}.6", self.net);
        let places = [
            format!("receivers.otlp.protocols.grpc.endpoint={here}:0"),
            format!("receivers.otlp.protocols.http.endpoint={here}:0"),
            format!("extensions.health_check.endpoint={here}:0"),
            format!("service.telemetry.metrics.readers.0.pull.exporter.prometheus.host={here}"),
        ];
        let sets: Vec<_> = places.iter().map(String::as_str).chain(sets.iter().copied()).collect();
        let plain = command();
        let program = plain.as_std().get_program();
        let mut inside = tokio::process::Command::new("ip");
        inside.args(["netns", "exec", &self.namespace]).arg(program).args(arguments(&sets));
        inside.env("DATABASE_URL", dsn).kill_on_drop(true);
        let forebay = Forebay::spawn(inside).await;
        forebay.becomes_ready().await;
        forebay
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// A server that lets forebay in from `network` as a plain role with two sessions and no more.
async fn server(network: &Network) -> (Postgres, Database, Client, String) {
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    let client = database.connect().await;
    let dsn = plain_role(&database, &client).await;
    client.batch_execute("ALTER ROLE collector CONNECTION LIMIT 2").await.unwrap();
    let access: String = client.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
    let lines = std::fs::read_to_string(&access).unwrap();
    set_access(&client, &access, &format!("host all collector {}.2/32 trust\n{lines}", network.net)).await;
    (postgres, database, client, dsn)
}

/// Fault 13, and the lost sessions of fault 17. Scenario: the link to the server is down for a while, then comes and goes;
/// forebay's role may have no more sessions than the two that are lost then. Promise: every wait ends by a deadline, the lost
/// sessions make room for new ones, and nothing is lost or stored twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_down() {
    let network = match Network::set_up() {
        Ok(network) => network,
        Err(reason) => return println!("fault 13: SKIPPED, no network can be made here: {reason}"),
    };
    let (mut postgres, database, client, dsn) = server(&network).await;
    let sets = ["exporters.postgres.timeout=1s", "exporters.postgres.sending_queue.queue_size=50000"];
    let scene = Scene::on(network.forebay(&dsn, &sets).await, &database).await;
    network.link("down");
    scene.forebay.becomes_unready("database_unreachable").await;
    sleep(either(SECOND, 50 * SECOND)).await;
    let lost = sessions(&client).await.len();
    network.link("up");
    let mut longest = scene.recovers().await;
    for _ in 0..either(2, 30) {
        network.link("down");
        sleep(2 * SECOND).await;
        network.link("up");
        sleep(2 * SECOND).await;
    }
    longest = longest.max(scene.recovers().await);
    let fault = format!("fault 13, link down and flapping, {lost} sessions of two left behind");
    let account = scene.ends(&fault, longest).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
    postgres.stop(Stop::Fast).await;
}
