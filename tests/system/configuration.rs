//! Configuration as people meet it: errors that say what to do, and a file that reads back.

use crate::server::{Stand, ashlar, refusal};

#[test]
fn errors_name_the_source_the_key_and_the_remedy() {
    let stand = Stand::new();
    let file = stand.path("ashlar.toml");
    let run = |text: &str, flags: &[&str], variables: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        let mut command = ashlar();
        command.args(["config", "check", "--config"]).arg(&file).args(flags);
        refusal(&command.envs(variables.iter().copied()).output().unwrap())
    };
    let said = run("[s3]\nlissten = '127.0.0.1:1'\n", &[], &[]);
    assert!(said.contains("ashlar.toml") && said.contains("lissten") && said.contains("line 2"), "{said}");
    let said = run("nodes = 'six'\n", &[], &[]);
    assert!(said.contains("ashlar.toml") && said.contains("u16"), "{said}");
    let said = run("", &[], &[("ASHLAR_LIMITS_DRAIN_TIMEUOT", "5s")]);
    assert!(said.contains("did you mean ASHLAR_LIMITS_DRAIN_TIMEOUT?"), "{said}");
    let said = run("", &["--nodes", "2"], &[]);
    assert!(said.contains("--nodes") && said.contains("at least one node more"), "{said}");
    let said = run("", &["--api-listen", "0.0.0.0:9001"], &[]);
    assert!(said.contains("--allow-plaintext-auth"), "{said}");
    for said in [run("x = 1", &[], &[]), run("", &["--nodes", "2"], &[])] {
        assert_eq!(said.trim_end().lines().filter(|line| line.starts_with("ashlar:")).count(), 1, "{said}");
    }
}

#[test]
fn up_refuses_what_check_refuses() {
    let stand = Stand::new();
    let said = refusal(&stand.up(&["--coding", "0+2"]).output().unwrap());
    assert!(said.contains("--coding"), "{said}");
    assert!(!stand.data().exists(), "nothing is made from a configuration that is refused");
}

#[test]
fn what_print_writes_check_takes() {
    let stand = Stand::new();
    let printed = ashlar()
        .args(["config", "print", "--nodes", "9"])
        .env("ASHLAR_MEMORY_ROWS", "90MiB")
        .output()
        .unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("nodes = 9  # from --nodes"), "{text}");
    assert!(text.contains("rows = \"90MiB\"  # from ASHLAR_MEMORY_ROWS"), "{text}");
    let file = stand.path("ashlar.toml");
    std::fs::write(&file, &text).unwrap();
    let check = ashlar().args(["config", "check", "--config"]).arg(&file).output().unwrap();
    assert!(check.status.success());
    let again = ashlar().args(["config", "print", "--config"]).arg(&file).output().unwrap();
    let strip = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  #").next().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(strip(&text), strip(&String::from_utf8(again.stdout).unwrap()));
}

#[test]
fn output_into_a_closed_pipe_ends_quietly() {
    let mut command = ashlar();
    let mut child = command
        .args(["config", "print"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
