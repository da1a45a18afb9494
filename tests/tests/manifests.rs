//! What the examples give to other programs: manifests of Kubernetes and Nomad, configurations of
//! balancers.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use handover::{Policy, health::Probe};
use tokio::process::Command;

use self::support::foreign::interpreter;

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(path)
}

fn manifest() -> String {
    fs::read_to_string(example("kubernetes/app.yaml")).unwrap()
}

/// What is set for `key`, each time.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let after = text.split(key).skip(1);
    after
        .filter_map(|rest| rest.strip_prefix(": ")?.split([',', '}', '\n']).next())
        .collect()
}

fn succeeded(output: &Output) {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_pod_is_given_the_time_that_its_policy_takes() {
    let manifest = manifest();
    let grace = values(&manifest, "terminationGracePeriodSeconds");
    let grace = Duration::from_secs(grace[0].parse().unwrap());
    let policy = Policy::kubernetes();
    let whole = policy.deadline(false) + policy.cut_grace();
    // Some seconds for a busy node, and for what the process does after its drain.
    assert!(whole + Duration::from_secs(4) < grace, "{policy:?}");
    assert!(!manifest.contains("preStop:"), "it takes of that time");
}

#[test]
fn nomad_gives_the_time_that_the_policy_takes() {
    let job = fs::read_to_string(example("nomad/app.nomad.hcl")).unwrap();
    let of = |key: &str| {
        let (_, rest) = job.split_once(&format!(" {key} = \"")).unwrap();
        rest.split('"').next().unwrap()
    };
    let seconds = |key| Duration::from_secs(of(key).strip_suffix('s').unwrap().parse().unwrap());
    let policy = Policy::kubernetes();
    let whole = policy.deadline(false) + policy.cut_grace();
    assert!(whole + Duration::from_secs(4) < seconds("kill_timeout"));
    // It would come before the signal, and nobody would be told meanwhile.
    assert_eq!(seconds("shutdown_delay"), Duration::ZERO);
    let (_, path) = job.split_once(" path     = \"").unwrap();
    let path = path.split('"').next().unwrap();
    assert_eq!(Probe::from_path(path), Some(Probe::Ready));
}

#[test]
fn a_pod_is_asked_what_is_answered() {
    let manifest = manifest();
    let probes: Vec<Probe> = values(&manifest, "path")
        .into_iter()
        .map(|path| Probe::from_path(path).unwrap_or_else(|| panic!("{path} is no probe")))
        .collect();
    assert_eq!(probes, [Probe::Startup, Probe::Ready, Probe::Live]);
    // The ports that the program is told are those that have the names.
    for port in values(&manifest, "containerPort") {
        assert!(manifest.contains(&format!("\"0.0.0.0:{port}\"")), "{port}");
    }
}

#[tokio::test]
#[ignore = "needs kubernetes-validate; run by tests/all"]
async fn the_schemas_of_kubernetes_know_the_manifests() {
    let mut command = interpreter();
    command.args(["-m", "kubernetes_validate", "--strict"]);
    command.arg(example("kubernetes/app.yaml"));
    succeeded(&command.output().await.unwrap());
}

#[tokio::test]
#[ignore = "needs haproxy; run by tests/all"]
async fn haproxy_reads_its_configuration() {
    let mut command = Command::new("haproxy");
    command.args(["-c", "-f"]);
    command.arg(example("behind-a-balancer/haproxy.cfg"));
    succeeded(&command.output().await.unwrap());
}

#[tokio::test]
#[ignore = "needs nginx; run by tests/all"]
async fn nginx_reads_its_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-t").arg("-p").arg(directory.path());
    command
        .arg("-c")
        .arg(example("behind-a-balancer/nginx.conf"));
    succeeded(&command.output().await.unwrap());
}
