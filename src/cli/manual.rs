//! What a user's shell and `man` know of the program, made from the command line's own definition.

use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use super::exit::Exit;
use super::progress::put;

const NAME: &str = "bookstore";

/// Flags of `completions`.
#[derive(Debug, Clone, Args)]
pub(super) struct CompletionsArgs {
    /// The shell; its script goes to stdout
    shell: Shell,
}

/// Flags of `man`.
#[derive(Debug, Clone, Args)]
pub(super) struct ManArgs {
    /// A command, as in `bookstore man serve`; without it the page is the program's
    command: Option<String>,
}

/// Prints the shell's script.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), NAME, &mut script);
    put(&String::from_utf8_lossy(&script))
}

/// Prints the page, in roff.
pub(super) fn man(args: &ManArgs) -> Result<(), Exit> {
    let mut all = super::command();
    // Gives each command its whole name.
    all.build();
    let command = match &args.command {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let names: Vec<&str> = all.get_subcommands().map(clap::Command::get_name).collect();
                return Err(Exit::usage(format!("there is no command {name}; the commands are: {}", names.join(", "))));
            }
        },
    };
    let mut page = Vec::new();
    let made = Man::new(command).source(format!("{NAME} {}", env!("CARGO_PKG_VERSION"))).render(&mut page);
    made.map_err(|error| Exit::failure(format!("cannot make the page: {error}; `bookstore --help` tells the same")))?;
    put(&with_no_date(&String::from_utf8_lossy(&page)))
}

/// An empty date is left out where the page's heading is made, and what comes next would be taken for it.
fn with_no_date(page: &str) -> String {
    page.replacen(" 1  \"", " 1 \"\" \"", 1)
}
