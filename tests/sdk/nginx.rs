//! Debian's nginx before two forebays, with what `deploy/nginx` has for it.

use std::path::Path;
use std::process::Stdio;

use support::forebay::Forebay;
use support::{eventually, free_port};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::sdks::Transport;

/// What it spreads.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    /// Each request by itself: `http.conf`.
    Requests,
    /// Connections, unread: `stream.conf`.
    Connections,
}

pub struct Nginx {
    grpc: u16,
    http: u16,
    _server: Child,
    _dir: TempDir,
}

impl Nginx {
    pub async fn before(forebays: &[Forebay; 2], spread: Spread) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [grpc, http] = [free_port(), free_port()];
        let (file, module) = match spread {
            Spread::Requests => ("http.conf", ""),
            Spread::Connections => {
                ("stream.conf", "load_module /usr/lib/nginx/modules/ngx_stream_module.so;")
            }
        };
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nginx").join(file);
        let mut conf = std::fs::read_to_string(shipped).unwrap();
        for (port, here) in [(4317, grpc), (4318, http)] {
            conf = conf.replace(&format!("listen {port}"), &format!("listen 127.0.0.1:{here}"));
        }
        for (number, forebay) in forebays.iter().enumerate() {
            let addresses = [
                (4317, forebay.endpoint().replace("http://", "")),
                (4318, forebay.http_address().to_owned()),
            ];
            for (port, address) in addresses {
                let shipped = format!("forebay-{}:{port}", number + 1);
                assert!(conf.contains(&shipped), "{file} names {shipped}");
                conf = conf.replace(&shipped, &address);
            }
        }
        let around = match spread {
            Spread::Requests => format!(
                "http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; \
                 uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n{conf}}}"
            ),
            Spread::Connections => conf,
        };
        // One process, so that it ends when it is told to.
        let main = format!(
            "{module}\ndaemon off; master_process off; error_log stderr warn; pid nginx.pid; events {{}}\n{around}\n"
        );
        std::fs::write(dir.path().join("nginx.conf"), main).unwrap();
        let server = Command::new("nginx")
            .arg("-p")
            .arg(dir.path())
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx is installed, which ./dev test does");
        eventually("nginx listens", || async {
            TcpStream::connect(("127.0.0.1", http)).await.ok().map(drop)
        })
        .await;
        Self { grpc, http, _server: server, _dir: dir }
    }

    /// Where senders find it.
    pub fn endpoint(&self, transport: Transport) -> String {
        let port = if transport == Transport::Grpc { self.grpc } else { self.http };
        format!("http://127.0.0.1:{port}")
    }
}
