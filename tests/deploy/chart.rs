//! deploy/helm/forebay, rendered by helm for its defaults and for each of its examples, and read by who will read it:
//! Kubernetes' own schemas, its Pod Security Standards, Prometheus' operator, promtool, and forebay.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::authority::Authority;
use tempfile::TempDir;

use crate::tools::{file, outcome, own_tool, run, succeeds, text, tool};

const CHART: &str = "deploy/helm/forebay";
/// The newest Kubernetes that it is checked against, and the oldest, which Chart.yaml asks for.
const KUBERNETES: [&str; 2] = ["1.37.0", "1.30.0"];
/// What comes after the drain: the last answers, the losses, the pages.
const LAST_WORDS: u64 = 13;

/// The defaults, which are no file, and every example.
fn values() -> Vec<Option<PathBuf>> {
    let entries =
        fs::read_dir(file(CHART).join("examples")).unwrap().map(|entry| Some(entry.unwrap().path()));
    let mut all: Vec<_> = std::iter::once(None).chain(entries).collect();
    all.sort();
    assert!(all.len() > 4, "{all:?}");
    all
}

/// A command of helm on the chart.
fn helm(command: &[&str], values: Option<&Path>) -> Option<Command> {
    let mut helm = Command::new(own_tool("bin/helm")?);
    helm.args(command).arg(file(CHART)).args(["--kube-version", KUBERNETES[0]]);
    helm.args(values.iter().flat_map(|values| ["--values".into(), values.as_os_str().to_owned()]));
    Some(helm)
}

/// What the chart makes of values.
struct Rendered {
    objects: Vec<Value>,
    file: PathBuf,
    _dir: TempDir,
}

impl Rendered {
    /// `None` where what that takes is not installed.
    fn of(values: Option<&Path>) -> Option<Self> {
        let text = succeeds(&mut helm(&["template", "gateway", "--namespace", "logs"], values)?);
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("rendered.yaml");
        fs::write(&file, text).unwrap();
        // It holds Prometheus' operator's objects to its types, and pods to the standard "restricted".
        let objects = run(own_tool("bin/deploy-tools")?, ["objects", file.to_str().unwrap()]);
        let objects = serde_json::from_str(&objects).unwrap_or_else(|error| panic!("{error}: {objects}"));
        Some(Self { objects, file, _dir: dir })
    }

    fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The only one of its kind, where there is one.
    fn one(&self, kind: &str) -> Option<&Value> {
        assert!(self.all(kind).count() <= 1, "{kind}");
        self.objects.iter().find(|object| object["kind"] == kind)
    }

    /// The Deployment, or the StatefulSet of gateways with a queue on disk.
    fn gateways(&self) -> &Value {
        let [one] =
            ["Deployment", "StatefulSet"].iter().filter_map(|kind| self.one(kind)).collect::<Vec<_>>()[..]
        else {
            panic!("one of both");
        };
        one
    }

    /// forebay's configuration.
    fn config(&self) -> &str {
        self.one("ConfigMap").unwrap()["data"]["config.yaml"].as_str().unwrap()
    }
}

/// Runs `check` on what the chart makes of its defaults and of each example.
fn for_each(check: impl Fn(&str, &Rendered)) {
    for values in values() {
        let Some(rendered) = Rendered::of(values.as_deref()) else { return };
        let name = values
            .as_deref()
            .and_then(Path::file_stem)
            .map_or("defaults".into(), |name| name.to_string_lossy());
        check(&name, &rendered);
    }
}

/// Scenario: kubeconform holds what is rendered against Kubernetes' schemas, of the newest version and of the oldest.
/// Guarantee: every object has a schema and keeps to it, strictly; helm's own linter has nothing to say.
#[test]
fn kubernetes_takes_every_object() {
    let Some(kubeconform) = own_tool("bin/kubeconform") else { return };
    let schemas =
        file("target/deploy/schemas/{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}{{.KindSuffix}}.json");
    let conform = |version: &str, file: &Path| {
        let mut command = Command::new(&kubeconform);
        command.args([
            "-strict",
            "-summary",
            "-kubernetes-version",
            version,
            "-skip",
            "ServiceMonitor,PrometheusRule",
        ]);
        outcome(command.arg("-schema-location").arg(&schemas).arg(file))
    };
    for values in values() {
        let said = succeeds(&mut helm(&["lint", "--strict"], values.as_deref()).unwrap());
        assert!(said.contains("0 chart(s) failed") && !said.contains("[WARNING]"), "{values:?}: {said}");
    }
    for_each(|name, rendered| {
        let others =
            ["ServiceMonitor", "PrometheusRule"].iter().filter(|kind| rendered.one(kind).is_some()).count();
        for version in KUBERNETES {
            let (valid, said) = conform(version, &rendered.file);
            let all = format!("Valid: {}, Invalid: 0, Errors: 0", rendered.objects.len() - others);
            assert!(valid && said.contains(&all), "{name}, {version}: {said}");
        }
        // It is not that everything passes.
        let broken = |from: &str, to: &str| {
            let path = rendered.file.with_file_name("broken.yaml");
            fs::write(&path, fs::read_to_string(&rendered.file).unwrap().replace(from, to)).unwrap();
            path
        };
        let path = broken("terminationGracePeriodSeconds", "graceSeconds");
        let (valid, said) = conform(KUBERNETES[0], &path);
        assert!(!valid && said.contains("graceSeconds"), "{said}");
        for (from, to, named) in [
            ("runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
            ("readOnlyRootFilesystem", "readOnlyRoot", "readOnlyRoot"),
        ] {
            let objects = own_tool("bin/deploy-tools").unwrap();
            let (valid, said) = outcome(Command::new(objects).arg("objects").arg(broken(from, to)));
            assert!(!valid && said.contains(named), "{said}");
        }
    });
}

/// Scenario: forebay reads the configuration that is rendered, with the files that the Secrets would have. Guarantee: it is
/// valid, and its ports are those of the Services and the probes.
#[test]
fn forebay_takes_its_configuration() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::default());
    let identity = authority.server();
    for (name, text) in [
        ("tls.crt", &identity.certificate),
        ("tls.key", &identity.key),
        ("ca.crt", &authority.pem),
        ("tokens", &"a-token-of-some-length-for-the-test\n".to_owned()),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    for_each(|name, rendered| {
        let config = rendered.config();
        let place = dir.path().to_str().unwrap();
        let here = config.replace("/etc/forebay/tls", place).replace("/etc/forebay/auth", place);
        let own = dir.path().join("config.yaml");
        fs::write(&own, here).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("validate").arg("--config").arg(own).env("DATABASE_URL", "postgres://forebay@db/forebay");
        let said = succeeds(&mut command);
        assert!(said.contains("the configuration is valid"), "{name}: {said}");
        assert_eq!(said.contains("OTLP/gRPC on 0.0.0.0:4317"), name != "small", "{name}: {said}");
        assert!(said.contains("OTLP/HTTP on 0.0.0.0:4318"), "{name}: {said}");
        assert!(config.contains("127.0.0.1:13133") && config.contains("port: 8888"), "{name}");
    });
}

/// Scenario: a pod is asked to end. Guarantee: Kubernetes waits for the Services to leave it, for the drain and for what
/// comes after. What restarts it asks whether it is alive, what sends to it whether it takes records.
#[test]
fn pods_have_the_time_to_drain() {
    for_each(|name, rendered| {
        let config: Value = forebay_config(rendered.config());
        let drain = config["exporters"]["postgres"]["shutdown_timeout"].as_str().unwrap();
        let drain: u64 = drain.strip_suffix('s').unwrap().parse().unwrap();
        let pod = &rendered.gateways()["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > sleep + drain + LAST_WORDS, "{name}: {grace} s for {sleep} + {drain} + {LAST_WORDS}");
        for (probe, ability) in
            [("livenessProbe", "alive"), ("startupProbe", "alive"), ("readinessProbe", "accepting")]
        {
            let command = &container[probe]["exec"]["command"];
            assert_eq!(command[3], ability, "{name}: {probe}");
            assert_eq!(command[5], container["args"][1], "{name}: {probe} has forebay's configuration");
        }
    });
}

/// forebay's own reading of a configuration.
fn forebay_config(yaml: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    // Its files are another test's; only the exporter is looked at.
    let exporter: String = yaml
        .lines()
        .take_while(|line| !line.starts_with("extensions:"))
        .map(|line| format!("{line}\n"))
        .collect();
    command.args(["print-config", "--config", "otel-config.yaml", "--config", &format!("yaml:{exporter}")]);
    let printed = succeeds(command.env("DATABASE_URL", "postgres://forebay@db/forebay"));
    let timeout = printed.lines().find_map(|line| line.trim().strip_prefix("shutdown_timeout: ")).unwrap();
    serde_json::json!({"exporters": {"postgres": {"shutdown_timeout": timeout.trim_matches('"')}}})
}

/// Scenario: everything that is to find the pods is held against their labels. Guarantee: all of it does, and nothing else
/// of the chart is left out by its selectors.
#[test]
fn selectors_find_the_pods() {
    for_each(|name, rendered| {
        let deployment = rendered.gateways();
        let labels = deployment["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
        let finds = |selector: &Value, what: &str| {
            let selector = selector.as_object().unwrap_or_else(|| panic!("{name}: {what} has no selector"));
            assert!(!selector.is_empty());
            assert!(
                selector.iter().all(|(key, value)| labels.get(key) == Some(value)),
                "{name}: {what}: {selector:?}"
            );
        };
        finds(&deployment["spec"]["selector"]["matchLabels"], "the gateways");
        rendered.all("Service").for_each(|service| finds(&service["spec"]["selector"], "a Service"));
        for (kind, path) in [
            ("PodDisruptionBudget", "/spec/selector/matchLabels"),
            ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ] {
            rendered.all(kind).for_each(|object| finds(object.pointer(path).unwrap(), kind));
        }
        for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
            .as_array()
            .into_iter()
            .flatten()
        {
            finds(&spread["labelSelector"]["matchLabels"], "the spread");
        }
        let ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().unwrap();
        for port in rendered.all("Service").flat_map(|service| service["spec"]["ports"].as_array().unwrap()) {
            assert!(ports.iter().any(|own| own["name"] == port["targetPort"]), "{name}: {port}");
        }
        if let Some(autoscaler) = rendered.one("HorizontalPodAutoscaler") {
            assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
            assert_eq!(
                deployment["spec"]["replicas"],
                Value::Null,
                "{name}: what is scaled has no number of its own"
            );
            let metric = autoscaler["spec"]["metrics"][0]["pods"]["metric"]["name"].as_str().unwrap();
            let adapter = text("deploy/helm/forebay/prometheus-adapter.yaml");
            assert!(adapter.contains(&format!("as: {metric}\n")), "{name}: {metric}");
            let rules = text("deploy/prometheus/rules/recording.yml");
            assert!(
                adapter.contains("instance:log_buffer_fill:ratio")
                    && rules.contains("record: instance:log_buffer_fill:ratio")
            );
        }
        if let Some(monitor) = rendered.one("ServiceMonitor") {
            let port = &monitor["spec"]["endpoints"][0]["port"];
            let scraped = rendered.all("Service").filter(|service| {
                service["spec"]["ports"].as_array().unwrap().iter().any(|own| own["name"] == *port)
            });
            assert_eq!(scraped.count(), 1, "{name}: each pod is scraped once");
        }
    });
}

/// Scenario: the chart's copy of the rules, and the rules that it renders. Guarantee: they are those of deploy/prometheus,
/// to the letter, and promtool takes them. After a change of the rules: `FOREBAY_REGENERATE=1 cargo test --test deploy rules`.
#[test]
fn rules_are_those_of_prometheus() {
    let copies = file(CHART).join("rules");
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let own = file("deploy/prometheus/rules");
    for name in names(&own) {
        let text = fs::read_to_string(own.join(&name)).unwrap();
        if std::env::var_os("FOREBAY_REGENERATE").is_some() {
            fs::write(copies.join(&name), &text).unwrap();
        }
        let copy = fs::read_to_string(copies.join(&name)).unwrap_or_default();
        assert!(copy == text, "{}: FOREBAY_REGENERATE=1 copies it", name.display());
    }
    assert_eq!(names(&own), names(&copies));
    let Some(promtool) = tool("promtool") else { return };
    let Some(rendered) = Rendered::of(Some(&file(CHART).join("examples/ha.yaml"))) else { return };
    let rules = rendered.file.with_file_name("rules.json");
    fs::write(&rules, rendered.one("PrometheusRule").unwrap()["spec"].to_string()).unwrap();
    let said = run(promtool, ["check", "rules", rules.to_str().unwrap()]);
    let written: usize = names(&own).iter().map(|name| count_rules(&own.join(name))).sum();
    assert!(said.contains(&format!("SUCCESS: {written} rules found")), "{written}: {said}");
}

fn count_rules(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| line.starts_with("      - alert:") || line.starts_with("      - record:"))
        .count()
}

/// Scenario: gateways with a queue on disk. Guarantee: forebay keeps its queue on a volume of the gateway's own, which outlives
/// it and is larger than the queue can get with what has to stay free; the governing Service is there.
#[test]
fn a_queue_on_disk_is_on_a_volume_that_stays() {
    let Some(rendered) = Rendered::of(Some(&file(CHART).join("examples/durable.yaml"))) else { return };
    let set = &rendered.one("StatefulSet").unwrap()["spec"];
    let claim = &set["volumeClaimTemplates"][0];
    let mounts = set["template"]["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == claim["metadata"]["name"]).unwrap();
    let config = rendered.config();
    assert!(
        config.contains(&format!("directory: {}/queue\n", mount["mountPath"].as_str().unwrap())),
        "{config}"
    );
    assert!(config.contains("storage: file_storage\n"), "{config}");
    let stays = serde_json::json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    assert_eq!(set["persistentVolumeClaimRetentionPolicy"], stays);
    let size = claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap();
    let gib = |size: &str| size.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap();
    let largest = config.lines().find_map(|line| line.trim().strip_prefix("max_size: ")).unwrap();
    assert!(gib(size) * 9 / 10 >= gib(largest), "{size} for {largest}");
    assert_eq!(claim["spec"]["storageClassName"], "fast");
    let names: Vec<_> = rendered.all("Service").map(|service| &service["metadata"]["name"]).collect();
    assert!(names.contains(&&set["serviceName"]), "{names:?}");
    let defaults = text("deploy/helm/forebay/values.yaml");
    assert!(defaults.contains("  size: 12Gi\n"), "10GiB, and a tenth of the volume beside it");
}

/// Scenario: values that cannot be meant. Guarantee: the chart's schema refuses each, by its name.
#[test]
fn wrong_values_are_refused() {
    for (value, named) in [
        ("replicaCount=two", "replicaCount"),
        ("replicas=2", "replicas"),
        ("image.digest=latest", "digest"),
        ("tls.enable=true", "enable"),
        ("networkPolicy.databasePort=70000", "databasePort"),
        ("service.type=Ingress", "type"),
        ("storage.size=big", "size"),
        ("storage.enabled=true,autoscaling.enabled=true", "autoscaling.enabled=false"),
        ("headlessService.enabled=false,serviceMonitor.enabled=true", "headlessService.enabled"),
    ] {
        let Some(mut helm) = helm(&["template"], None) else { return };
        let (taken, said) = outcome(helm.args(["--set", value]));
        assert!(!taken && said.contains(named), "{value}: {said}");
    }
}
