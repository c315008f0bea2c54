//! The file of `--config`, in TOML, and the commented example of it.
//!
//! There is no list of keys here. A key is the long name of a flag of `serve`, and its value becomes the flag's: clap says
//! which keys there are, which is the nearest to a wrong one, and whether a value is right. Keys stand alone, not in tables:
//! so one name serves as flag, variable and key, and a flag can move to another heading of the help without breaking files.

use std::any::TypeId;
use std::path::Path;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use toml::de::{DeInteger, DeTable, DeValue};

use super::args::{ServeArgs, shaped};
use super::exit::Exit;

/// The flag that names the file, which cannot stand in it.
const CONFIG: &str = "config";

/// Columns of the example's comments.
const COLUMNS: usize = 96;

/// The flag without what it requires.
pub(super) fn alone(arg: Arg) -> Arg {
    arg.requires(Resettable::Reset)
}

/// What the file sets and neither command line nor environment do, as flags.
///
/// # Errors
///
/// When the file cannot be read, and when something in it is wrong: then all that is wrong is told.
pub(super) fn arguments(path: &Path, given: &ArgMatches) -> Result<Vec<String>, Exit> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Exit::failure(format!(
            "cannot read {file}: {error}; check --config or BOOKSTORE_CONFIG; `bookstore example-config > FILE` makes a file to \
             begin with"
        ))
    })?;
    let settings = read(&text).map_err(|wrong| {
        let lines: Vec<String> =
            wrong.iter().map(|Wrong { line, why }| format!("{file}, line {line}: {why}")).collect();
        let all = lines.join("\n");
        Exit::usage(format!("{all}\n`bookstore example-config` prints every key with its default and meaning"))
    })?;
    let is_given =
        |id: &str| matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
    Ok(settings.into_iter().filter(|setting| !is_given(&setting.id)).map(|setting| setting.argument).collect())
}

/// One key of a file.
struct Setting {
    /// By which clap knows the flag.
    id: String,
    /// `--key=value`
    argument: String,
}

/// What is wrong in a line, counted from 1.
struct Wrong {
    line: usize,
    why: String,
}

/// The settings of the text, in its order.
fn read(text: &str) -> Result<Vec<Setting>, Vec<Wrong>> {
    let line_at = |byte: usize| text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(span.start));
        let twice = error.span().filter(|_| error.message() == "duplicate key").and_then(|span| text.get(span));
        let key = twice.map_or_else(String::new, |key| format!(" `{key}`"));
        vec![Wrong { line, why: one_line(error.message()) + &key }]
    })?;
    let flags = flags();
    let mut keys: Vec<_> = table.get_ref().iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let (mut settings, mut wrong) = (Vec::new(), Vec::new());
    for (key, value) in keys {
        let source = text.get(value.span()).unwrap_or_default();
        match setting(&flags, key.get_ref(), value.get_ref(), source) {
            Ok(setting) => settings.push(setting),
            Err(why) => wrong.push(Wrong { line: line_at(key.span().start), why }),
        }
    }
    if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
}

/// The flags of `serve` alone, by which keys are judged one by one: without `--help`, variables and relations.
fn flags() -> Command {
    let flags = ServeArgs::augment_args(Command::new("bookstore")).no_binary_name(true).disable_help_flag(true);
    shaped(flags).mut_args(|arg| alone(arg).env(Resettable::Reset))
}

fn setting(flags: &Command, key: &str, value: &DeValue<'_>, source: &str) -> Result<Setting, String> {
    let Some(arg) = flags.get_arguments().find(|arg| arg.get_long() == Some(key)) else {
        return Err(unknown(flags, key, value));
    };
    if key == CONFIG {
        return Err(format!("key `{key}`: a file cannot name another one; use --config or BOOKSTORE_CONFIG"));
    }
    let kind = Kind::of(arg);
    let fitting = match (kind, value) {
        (Kind::Number, DeValue::Integer(number)) => decimal(number),
        (Kind::Choice, DeValue::Boolean(choice)) => Some(choice.to_string()),
        (Kind::Text, DeValue::String(text)) => Some(text.to_string()),
        _ => None,
    };
    // What has another type goes to clap as it is written. If that does, it is refused all the same: a number is no path.
    let fits = fitting.is_some();
    let argument = format!("--{key}={}", fitting.unwrap_or_else(|| source.to_owned()));
    match flags.clone().try_get_matches_from([&argument]) {
        Err(error) => Err(format!("key `{key}`: {}", words(&error))),
        Ok(_) if !fits => Err(format!("key `{key}`: `{source}` is not {}", kind.wanted())),
        Ok(_) => Ok(Setting { id: arg.get_id().to_string(), argument }),
    }
}

fn unknown(flags: &Command, key: &str, value: &DeValue<'_>) -> String {
    if matches!(value, DeValue::Table(_)) {
        return format!("unknown key `{key}`: there are no tables here, each key stands alone");
    }
    let refused = flags.clone().try_get_matches_from([format!("--{key}")]).err();
    let nearest = refused.as_ref().and_then(|error| match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(flag)) => Some(flag.trim_start_matches('-').to_owned()),
        _ => None,
    });
    match nearest {
        Some(nearest) => format!("unknown key `{key}`; the nearest is `{nearest}`"),
        None => format!("unknown key `{key}`; none is near to it"),
    }
}

/// What clap says of a value, without the advice for a command line.
pub(super) fn words(error: &clap::Error) -> String {
    let told = error.render().to_string();
    let (told, _advice) = told.split_once("\n\n").unwrap_or((&told, ""));
    one_line(told.trim_start_matches("error: "))
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn decimal(number: &DeInteger<'_>) -> Option<String> {
    i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}

/// The type that a flag's value has in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    /// true or false
    Choice,
    Text,
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        let id = arg.get_value_parser().type_id();
        let is_one_of = |ids: &[TypeId]| ids.iter().any(|one| id == *one);
        if is_one_of(&[TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<u32>(), TypeId::of::<u16>()]) {
            Kind::Number
        } else if is_one_of(&[TypeId::of::<bool>()]) {
            Kind::Choice
        } else {
            Kind::Text
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Kind::Number => "an integer",
            Kind::Choice => "true or false",
            Kind::Text => "a string in quotes",
        }
    }

    /// The value as the file has it.
    fn written(self, value: &str) -> String {
        match self {
            Kind::Number | Kind::Choice => value.to_owned(),
            // Of what stands in defaults, TOML escapes the same as Rust.
            Kind::Text => format!("{value:?}"),
        }
    }
}

/// A file with every key, out of use, with its default and what it means.
pub(super) fn example() -> String {
    let mut text = String::from(
        "# Settings of `bookstore serve`. Name this file with --config or BOOKSTORE_CONFIG.\n\
         #\n\
         # A key is the name of a flag. A flag wins over its variable (BOOKSTORE_ORDER_TTL), the variable over this file, and\n\
         # this file over the default. Each key stands here with its default; take the # away to set it. A path is relative\n\
         # to the directory in which the program is started, as with the flag, and not to this file. Times are a number with\n\
         # a unit, as in \"50ms\", \"30m\", \"1h\", \"10d\"; sizes are bytes.\n",
    );
    let flags = flags();
    let mut heading = "";
    for arg in flags.get_arguments() {
        let Some(key) = arg.get_long().filter(|key| *key != CONFIG) else { continue };
        let here = arg.get_help_heading().unwrap_or_default();
        if here != heading {
            heading = here;
            text.push_str(&format!("\n# ---- {heading} ----\n"));
        }
        text.push('\n');
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter(|line| !line.trim().is_empty()) {
            let end = if line.ends_with(['.', ']']) { "" } else { "." };
            comment(&mut text, &format!("{line}{end}"));
        }
        let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
        let value = default.unwrap_or_else(|| {
            comment(&mut text, "Not set by default. As in:");
            instance(arg).to_owned()
        });
        text.push_str(&format!("#{key} = {}\n", Kind::of(arg).written(&value)));
    }
    text
}

/// A value for a flag that has no default, by what its help calls it.
fn instance(arg: &Arg) -> &'static str {
    match arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str()) {
        Some("ADDRESS") => "127.0.0.1:5001",
        Some("FILE") if arg.get_long() == Some("admin-token-file") => "operators.token",
        Some("FILE") => "file.pem",
        Some("DIR") => "/var/lib/bookstore-backups",
        Some("TIME") => "10d",
        Some("URL") => "http://127.0.0.1:4318",
        Some("N" | "BYTES") => "4",
        _ => "",
    }
}

/// A comment of as many lines as it takes.
fn comment(text: &mut String, what: &str) {
    let mut line = String::from("#");
    for word in what.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments_of(text: &str) -> Vec<String> {
        let settings = read(text).unwrap_or_else(|wrong| panic!("line {}: {}", wrong[0].line, wrong[0].why));
        settings.into_iter().map(|setting| setting.argument).collect()
    }

    #[track_caller]
    fn refused(text: &str, line: usize, says: &[&str]) {
        let wrong = read(text).err().unwrap_or_default();
        assert_eq!(wrong.len(), 1, "{text}");
        assert_eq!(wrong[0].line, line, "{text}");
        for words in says {
            assert!(wrong[0].why.contains(words), "{words:?} is not in: {}", wrong[0].why);
        }
    }

    #[test]
    fn values_become_what_the_flag_takes() {
        let text = "order-ttl = '5m' # soon\nconnections-max = 1_000\nbody-limit = 0x10\nhuge-pages = false\ndata-dir = \"a b\"";
        let flags =
            ["--order-ttl=5m", "--connections-max=1000", "--body-limit=16", "--huge-pages=false", "--data-dir=a b"];
        assert_eq!(arguments_of(text), flags);
        assert!(arguments_of("").is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_flag() {
        refused("\norder-ttl = 'soon'", 2, &["key `order-ttl`: invalid value 'soon' for '--order-ttl <TIME>'"]);
        refused("order-ttl = 30", 1, &["invalid value '30' for '--order-ttl <TIME>'", "unit"]);
        refused("# x\n\nmode = 'lax'", 3, &["invalid value 'lax'", "strict, compat"]);
        refused("body-limit = -1", 1, &["invalid value '-1'", "--body-limit <BYTES>"]);
        refused("body-limit = '16'", 1, &["invalid value ''16''", "invalid digit"]);
        refused("body-limit = 1.5", 1, &["invalid value '1.5'"]);
        refused("huge-pages = 'yes'", 1, &["key `huge-pages`", "true, false"]);
        refused("data-dir = 5", 1, &["key `data-dir`: `5` is not a string in quotes"]);
        refused("listen = ['a',\n 'b']", 1, &["is not a string in quotes"]);
        refused("mode = true", 1, &["invalid value 'true'"]);
    }

    #[test]
    fn a_key_that_there_is_not_is_refused_with_the_nearest() {
        refused("\n\norder_ttl = '5m'", 3, &["unknown key `order_ttl`; the nearest is `order-ttl`"]);
        refused("conections-max = 5", 1, &["the nearest is `connections-max`"]);
        refused("qqq = 5", 1, &["unknown key `qqq`"]);
        refused("help = true", 1, &["unknown key `help`"]);
        refused("config = 'other.toml'", 1, &["key `config`", "cannot name another"]);
        refused("mode = 'strict'\n[data]\ndata-dir = 'x'", 2, &["unknown key `data`", "no tables"]);
        refused("mode = 'strict'\nmode = 'compat'", 2, &["duplicate key `mode`"]);
        refused("listen =", 1, &[]);
        let two = read("a = 1\nmode = 'strict'\nbody-limit = 'x'").err().unwrap_or_default();
        assert_eq!(two.iter().map(|wrong| wrong.line).collect::<Vec<_>>(), [1, 3]);
    }

    /// Takes the sign of a comment away from the keys, in the whole example or in what is by default as it says.
    fn in_use(defaults_only: bool) -> String {
        let example = example();
        let mut lines: Vec<&str> = Vec::new();
        for line in example.lines() {
            let is_key = line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
            let is_unset = lines.last().is_some_and(|line| line.starts_with("# Not set by default"));
            lines.push(if is_key && !(defaults_only && is_unset) { &line[1..] } else { line });
        }
        lines.join("\n")
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        assert!(arguments_of(&example()).is_empty(), "everything is a comment");
        let all = arguments_of(&in_use(false));
        let known: Vec<String> =
            flags().get_arguments().filter_map(Arg::get_long).filter(|key| *key != CONFIG).map(str::to_owned).collect();
        let keys: Vec<&str> = all.iter().map(|argument| argument[2..].split('=').next().unwrap_or_default()).collect();
        assert!(keys.len() > 40);
        assert_eq!(keys, known);
        let parsed = |arguments: Vec<String>| {
            let matches = flags().try_get_matches_from(arguments).unwrap();
            format!("{:?}", <ServeArgs as clap::FromArgMatches>::from_arg_matches(&matches).unwrap())
        };
        let defaults = arguments_of(&in_use(true));
        let flags = flags();
        let has_none =
            |arg: &&Arg| arg.get_long().is_some_and(|key| key != CONFIG) && arg.get_default_values().is_empty();
        let unset = flags.get_arguments().filter(has_none).count();
        assert!(unset > 5 && defaults.len() + unset == all.len(), "{unset}: {defaults:?}");
        assert_eq!(parsed(defaults), parsed(Vec::new()));
    }
}
