//! `serve --config`, and what the program prints about its own command line: the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::tool::command;
use common::{Server, bookstore, wait_until};

/// A directory with a file `shop.toml`.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn flag_then_variable_then_file_then_default() {
    let (dir, path) = file(
        "# from the file\nlisten = \"127.0.0.1:0\"\nmode = \"compat\"\ndurability = \"snapshot\"\ndata-dir = \"from-file\"\n\
         huge-pages = true\n",
    );
    let mut serve = command(&[&"serve", &"--durability", &"buffered", &"--huge-pages=false"]);
    serve.env("BOOKSTORE_CONFIG", &path).env("BOOKSTORE_MODE", "strict").current_dir(dir.path());
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let listening = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("listening on"));
    let _ = child.kill();
    let _ = child.wait();
    let listening = listening.expect("it ended before it listened");
    // A flag over the file, a variable over the file, the file over the default.
    assert!(listening.contains("durability buffered, mode strict, data in from-file)"), "{listening}");
    assert!(!listening.contains(":5000 "), "{listening}");
    // A path in the file is relative to where the program was started.
    assert!(dir.path().join("from-file/lock").exists());
}

#[test]
fn a_server_runs_with_a_file() {
    let (_dir, path) = file("order-lines-max = 1\nsnapshot-interval = \"1h\"\nauto-confirm = \"10d\"\n");
    let mut server = Server::start(&["--config", &path]);
    assert!(server.sigterm().success());
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_file_line_and_key() {
    let (_dir, path) = file("listen = \"127.0.0.1:0\"\norder_ttl = \"5m\"\nbody-limit = -1\n\nmode = \"lax\"\n");
    let told = bookstore(&[&"serve", &"--config", &path]).ends_with_status(2);
    for says in [
        format!("{path}, line 2: unknown key `order_ttl`; the nearest is `order-ttl`"),
        format!("{path}, line 3: key `body-limit`: invalid value '-1' for '--body-limit <BYTES>': invalid digit"),
        format!(
            "{path}, line 5: key `mode`: invalid value 'lax' for '--mode <strict|compat>' [possible values: strict, compat]"
        ),
        "bookstore example-config".to_owned(),
    ] {
        assert!(told.stderr.contains(&says), "{says:?} is not in:\n{}", told.stderr);
    }
    let (_dir, path) = file("listen = \"127.0.0.1:0\n");
    bookstore(&[&"--config", &path]).ends_with_status(2).says(&format!("{path}, line 1: "));
    bookstore(&[&"--config", &"/nowhere/shop.toml"]).ends_with_status(1).says("cannot read /nowhere/shop.toml");
}

#[test]
fn what_a_flag_requires_may_stand_elsewhere_but_not_nowhere() {
    let (_dir, path) = file("tls-key = \"nowhere.key\"\n");
    // The relation holds, and so the files are looked at.
    let both = bookstore(&[&"serve", &"--config", &path, &"--listen", &"127.0.0.1:0", &"--tls-cert", &"nowhere.pem"]);
    both.ends_with_status(1).says("--tls-cert: ");
    let one = bookstore(&[&"serve", &"--config", &path, &"--listen", &"127.0.0.1:0"]);
    one.ends_with_status(2).says("--tls-cert <FILE>").says("counts as these flags: --tls-key=nowhere.key");
    // And on the command line alone, as ever.
    bookstore(&[&"serve", &"--tls-cert", &"nowhere.pem"]).ends_with_status(2).says("--tls-key <FILE>");
}

#[test]
fn the_example_is_a_file_that_a_service_runs_with() {
    let example = bookstore(&[&"example-config"]).ok().stdout;
    let committed = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/bookstore.toml")).unwrap();
    // With the feature `otlp` there is a flag more.
    assert!(
        cfg!(feature = "otlp") || example == committed,
        "make it anew: bookstore example-config > docs/bookstore.toml"
    );
    // All that is set by default is set, but for where it listens and lies.
    let mut unset = false;
    let mut text = String::new();
    for line in example.lines() {
        let key = line.strip_prefix('#').filter(|key| key.contains(" = ") && !key.starts_with(' ') && !unset);
        unset = line.starts_with("# Not set by default");
        if let Some(key) = key.filter(|key| !key.starts_with("listen =") && !key.starts_with("data-dir =")) {
            text.push_str(key);
            text.push('\n');
        }
    }
    assert!(text.lines().count() > 35, "{text}");
    let (_dir, path) = file(&text);
    let server = Server::start(&["--config", &path]);
    assert!(server.output().contains("durability sync, mode strict"), "{}", server.output());
}

#[test]
fn completions_are_scripts_with_every_flag() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = bookstore(&[&"completions", &shell]).ok().stdout;
        for word in ["order-ttl", "example-config", "check", "generate"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
        // Two of them are not told what a flag takes.
        let knows_values = !["elvish", "powershell"].contains(&shell);
        assert_eq!(script.contains("buffered"), knows_values, "{shell}");
    }
    let (_dir, path) = file(&bookstore(&[&"completions", &"bash"]).ok().stdout);
    assert!(Command::new("bash").arg("-n").arg(&path).status().unwrap().success());
    // It completes.
    let probe = format!(
        "source '{path}'; COMP_WORDS=(bookstore serve --order-t); COMP_CWORD=2; _bookstore bookstore --order-t serve; echo \
         \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash").args(["-c", &probe]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--order-ttl", "{output:?}");
    bookstore(&[&"completions", &"tcsh"]).ends_with_status(2).says("bash");
}

#[test]
fn the_man_pages_tell_of_commands_and_flags() {
    let page = bookstore(&[&"man"]).ok().stdout;
    assert!(page.contains(".TH bookstore 1") && page.contains("example\\-config"), "{page}");
    assert!(!page.contains("order\\-ttl"), "{page}");
    let page = bookstore(&[&"man", &"serve"]).ok().stdout;
    assert!(page.contains(".TH bookstore\\-serve 1") || page.contains(".TH bookstore-serve 1"), "{page}");
    for word in ["\\-\\-order\\-ttl", "buffered", "BOOKSTORE_ORDER_TTL"] {
        assert!(page.contains(word), "{word} is not in:\n{page}");
    }
    bookstore(&[&"man", &"sell"]).ends_with_status(2).says("there is no command sell; the commands are: serve");
}

/// The date is empty, and what the page is of stands at its foot.
#[test]
fn the_head_of_a_man_page_has_its_fields_in_their_places() {
    let page = bookstore(&[&"man", &"serve"]).ok().stdout;
    let head = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
    assert!(head.contains(&format!(" 1 \"\" \"bookstore {}\"", env!("CARGO_PKG_VERSION"))), "{head}");
}

#[test]
fn a_variable_that_is_empty_wrong_or_unknown_is_told_or_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let serve = |variables: &[(&str, &str)]| {
        let mut serve =
            command(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &data, &"--in-flight-max", &"1"]);
        let output = serve.envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let told = serve(&[("BOOKSTORE_ORDER_TTL", "5")]);
    assert!(told.contains("time unit needed") && told.contains("the variable BOOKSTORE_ORDER_TTL"), "{told}");
    // The flag is wrong then, and no variable.
    let told = serve(&[("BOOKSTORE_IN_FLIGHT_MAX", "x")]);
    assert!(told.contains("--in-flight-max") && !told.contains("BOOKSTORE_IN_FLIGHT_MAX"), "{told}");
    // Both get as far as the engine, which does not like the flag.
    let told = serve(&[("BOOKSTORE_ORDER_TTL", ""), ("BOOKSTORE_CONFIG", ""), ("BOOKSTORE_ADMIN_LISTEN", "")]);
    assert!(told.contains("--in-flight-max: ") && !told.contains("count for nothing"), "{told}");
    let told = serve(&[("BOOKSTORE_ORDR_TTL", "5m"), ("BOOKSTORE_URL", "of another command")]);
    assert!(told.contains("they count for nothing variables=\"BOOKSTORE_ORDR_TTL\""), "{told}");
}

#[test]
fn a_mistyped_flag_is_told_the_nearest() {
    bookstore(&[&"serve", &"--ordr-ttl", &"5m"]).ends_with_status(2).says("--order-ttl");
}

#[test]
fn a_directory_in_use_says_what_to_do() {
    let server = Server::start(&[]);
    let data = server.data_dir();
    wait_until("the lock is there", || data.join("lock").exists());
    for tool in ["check", "repair"] {
        bookstore(&[&tool, &data]).ends_with_status(75).says("end that process");
    }
    bookstore(&[&"--listen", &"127.0.0.1:0", &"--data-dir", &data])
        .ends_with_status(1)
        .says("choose another --data-dir");
}

/// Both READMEs have a row for each flag of `serve`, and the same headings.
#[test]
fn the_readmes_tell_of_every_flag() {
    let example = bookstore(&[&"example-config"]).ok().stdout;
    let keys = example.lines().filter_map(|line| line.trim_start_matches('#').split_once(" = "));
    let mut flags: Vec<String> = keys
        .map(|(key, _)| key.trim().to_owned())
        .filter(|key| key.starts_with(|sign: char| sign.is_ascii_lowercase()))
        .collect();
    // It cannot stand in the file, and it is there with a feature only.
    flags.extend(["config".to_owned(), "otlp-endpoint".to_owned()]);
    flags.sort();
    flags.dedup();
    let headings = |text: &str| -> Vec<usize> {
        let mut in_code = false;
        let levels = text.lines().filter_map(|line| {
            in_code ^= line.starts_with("```");
            (!in_code && line.starts_with('#')).then(|| line.chars().take_while(|sign| *sign == '#').count())
        });
        levels.collect()
    };
    let mut shapes = Vec::new();
    for name in ["README.md", "README.zh-CN.md"] {
        let text = fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `--")?.split_once('`'));
        let mut told: Vec<String> = rows.map(|(flag, _)| flag.to_owned()).collect();
        told.sort();
        assert_eq!(told, flags, "{name}");
        shapes.push(headings(&text));
    }
    assert_eq!(shapes[0], shapes[1]);
}

/// What only the engine judges is wrong usage, too, and names the flag.
#[test]
fn a_value_that_the_engine_refuses_names_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (flag, value) in [
        ("--order-lines-max", "0"),
        ("--segment-bytes", "1"),
        ("--journal-buffer", "1"),
        ("--in-flight-max", "1"),
        ("--live-actors-max", "0"),
        ("--password-hashes-max", "0"),
        ("--token-ttl", "1ms"),
    ] {
        let told = bookstore(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &data, &flag, &value]);
        told.ends_with_status(2).says(flag);
        assert!(!data.exists(), "{flag}");
    }
    // What a password hash may cost is judged by the first one.
    let told = bookstore(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &data, &"--argon2-lanes", &"0"]);
    told.ends_with_status(2).says("--argon2-lanes");
}
