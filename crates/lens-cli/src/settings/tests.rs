#![allow(clippy::unwrap_used)]
use super::*;
use clap::Parser;

fn resolve(args: &[&str]) -> Result<Settings, CliError> {
    Settings::resolve(&Cli::try_parse_from(args).unwrap())
}

#[test]
fn flags_override_the_file_and_set_reaches_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lens.toml");
    std::fs::write(&file, "augment = 8\nseed = 3\n[vae]\nbeta = 0.5\n").unwrap();
    let file = file.to_str().unwrap();
    let s = resolve(&[
        "lens",
        "run",
        "x",
        "--config",
        file,
        "--seed",
        "7",
        "--set",
        "head.hidden=[8, 4]",
        "--set",
        "vae.gamma=0.2",
        "--set",
        "pooling=mean",
    ])
    .unwrap();
    assert_eq!((s.augment, s.seed), (Augment::Factor(8), 7));
    assert_eq!((s.vae.beta, s.vae.gamma), (0.5, 0.2));
    assert_eq!(s.head.hidden, [8, 4]);
    assert_eq!(s.pooling, "mean");
}

#[test]
fn flags_of_a_table_leave_the_rest_of_it_as_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lens.toml");
    let text = "[generate]\nsamples = 4\nseed = 2\n[generate.sampling]\ntop_k = 9\n";
    std::fs::write(&file, text).unwrap();
    let words = "lens generate x -o y --samples 3 --temperature 0.5 --config";
    let mut words: Vec<&str> = words.split(' ').collect();
    words.push(file.to_str().unwrap());
    let s = resolve(&words).unwrap();
    assert_eq!((s.generate.samples, s.generate.seed, s.seed), (3, 2, 0));
    assert_eq!((s.generate.sampling.top_k, s.generate.sampling.temperature), (9, 0.5));
}

#[test]
fn unknown_keys_and_values_out_of_range_are_refused_by_name() {
    let error = resolve(&["lens", "run", "x", "--set", "vae.bta=1"]).unwrap_err();
    assert!(error.to_string().contains("bta"), "{error}");
    assert_eq!(error.exit_code(), 2);
    let error = resolve(&["lens", "run", "x", "--augment", "0"]).unwrap_err();
    assert!(error.to_string().contains("augment"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn the_printed_settings_are_a_settings_file() {
    let settings = Settings { augment: Augment::Factor(16), ..Settings::default() };
    let again: Settings = toml::from_str(&settings.to_toml().unwrap()).unwrap();
    assert_eq!(again, settings);
}

/// Every setting stands in docs/settings.md with its default.
#[test]
fn every_setting_is_documented() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    fn check(prefix: &str, table: &toml::Table, docs: &str) {
        for (key, value) in table {
            let name = format!("{prefix}{key}");
            if let Some(inner) = value.as_table() {
                check(&format!("{name}."), inner, docs);
                continue;
            }
            let row = docs.lines().find(|l| l.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| unreachable!("{name} is not in docs/settings.md"));
            let value = value.to_string();
            // 100.0 may stand as 100, and 0.0 as 0.
            let short = value.strip_suffix(".0").unwrap_or(&value);
            assert!(row.contains(short), "{row} does not name the default {value}");
        }
    }
    check("", &toml::Table::try_from(Settings::default()).unwrap(), &docs);
}

/// Every flag that is a setting can live in the settings file under its own name.
#[test]
fn every_flag_is_a_key() {
    use clap::CommandFactory;
    let keys = toml::Table::try_from(Settings {
        server: Some("x".into()),
        eval: Some("x".into()),
        warm_start: Some("x".into()),
        output: Some("x".into()),
        log_dir: Some("x".into()),
        seed_pairs: Some(1),
        threads: Some(1),
        cache: Some("x".into()),
        layers: Some("x".into()),
        columns: Some("x".into()),
        label: Some("x".into()),
        serve: ServeSettings {
            pairs: Some("x".into()),
            token_file: Some("x".into()),
            tls_cert: Some("x".into()),
            tls_key: Some("x".into()),
            memory: Some(lens_server::ByteSize(1)),
            ..ServeSettings::default()
        },
        ..Settings::default()
    })
    .unwrap();
    let nested = [&keys["generate"], &keys["generate"]["sampling"], &keys["serve"]];
    let is_key = |key: &str| keys.contains_key(key) || nested.iter().any(|t| t.get(key).is_some());
    // These say what to do or which file to read; they are not settings.
    let not_settings = [
        "config",
        "set",
        "show-settings",
        "help",
        "version",
        "key",
        "codes",
        "to",
        "gold",
        "list",
        "show",
        "like",
        "name",
        "token",
        "prefix",
        "all",
    ];
    let not_settings = [
        &not_settings[..],
        &["benchmark", "subset", "n", "worst", "outputs", "report", "controls"],
    ]
    .concat();
    let command = Cli::command();
    let all = command.get_subcommands().flat_map(|c| c.get_arguments());
    for long in all.chain(command.get_arguments()).filter_map(|a| a.get_long()) {
        if !not_settings.contains(&long) {
            assert!(is_key(&long.replace('-', "_")), "--{long}");
        }
    }
}

#[test]
fn augment_is_a_factor_or_auto() {
    let of = |words: &[&str]| resolve(&[&["lens", "run", "x"], words].concat()).map(|s| s.augment);
    assert_eq!(of(&["--augment", "auto"]).unwrap(), Augment::Auto);
    assert_eq!(of(&["--augment", "16"]).unwrap(), Augment::Factor(16));
    assert_eq!(of(&["--set", "augment=8"]).unwrap(), Augment::Factor(8));
    for wrong in ["0", "-1", "4.5", "often"] {
        let flag = format!("--augment={wrong}");
        assert_eq!(of(&[&flag]).unwrap_err().exit_code(), 2, "{wrong}");
    }
    let auto = Settings { augment: Augment::Auto, ..Settings::default() };
    assert_eq!(toml::from_str::<Settings>(&auto.to_toml().unwrap()).unwrap(), auto);
}
