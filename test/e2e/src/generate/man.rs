//! The manual pages, from the command lines themselves.

use clap::{Command, CommandFactory};
use clap_mangen::Man;

/// Name of the file, section, command line, and what else to read.
fn pages() -> [(&'static str, &'static str, Command); 3] {
    [
        ("docs/man/rmr_tgt.8", "8", tgt_app::cli::Args::command()),
        ("docs/man/rmr-rpc.1", "1", rmr_rpc::whole_tree()),
        ("docs/man/rmr-perf.1", "1", rmr_perf::command()),
    ]
}

/// All pages by their paths from the root, as roff.
pub fn man() -> Vec<(&'static str, String)> {
    pages().into_iter().map(|(path, section, command)| (path, page(section, command))).collect()
}

/// One page. Subcommands have their options in it: there is one page a program.
fn page(section: &str, mut command: Command) -> String {
    command.build();
    let name = command.get_name().to_owned();
    // rmr-rpc has a subcommand a method: docs/rpc.md and `--help` describe their parameters.
    let few = command.get_subcommands().count() < 10;
    let subcommands: Vec<Command> =
        command.get_subcommands().filter(|sub| few && sub.get_name() != "help").cloned().collect();
    let subs: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    // The first line is what the page is called; the rest belongs to the description.
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let first = about.lines().next().unwrap_or_default().to_owned();
    let man = Man::new(command.about(first).long_about(about)).section(section).manual("rmr_tgt").date("");
    let mut roff = Vec::new();
    man.render(&mut roff).expect("a vector takes it all");
    for sub in subcommands {
        let title = format!(".SH \"{} {}\"\n", name.to_uppercase(), sub.get_name().to_uppercase());
        roff.extend(title.as_bytes());
        let man = Man::new(sub);
        man.render_description_section(&mut roff).expect("a vector takes it all");
        man.render_options_section(&mut roff).expect("a vector takes it all");
    }
    let pages = pages_beside(&name);
    roff.extend(format!(".SH \"SEE ALSO\"\n{pages}\n").as_bytes());
    tidy(String::from_utf8(roff).expect("roff is text"), &name, section, &subs)
}

/// Text after the options keeps its lines, and subcommands are no pages of their own.
fn tidy(roff: String, name: &str, section: &str, subs: &[String]) -> String {
    let escaped = |text: &str| text.replace('-', "\\-");
    let roff = roff
        .replace(".SH EXTRA\n", ".SH NOTES\n.nf\n")
        .replace(".SH DESCRIPTION\n", ".SH DESCRIPTION\n.nf\n");
    subs.iter().fold(roff, |roff, sub| {
        let page = format!("{}\\-{}({section})", escaped(name), escaped(sub));
        roff.replace(&page, &format!("{} {}", escaped(name), escaped(sub)))
    })
}

fn pages_beside(name: &str) -> String {
    let all = [("rmr_tgt", 8), ("rmr-rpc", 1), ("rmr-perf", 1)];
    let others = all.iter().filter(|(other, _)| *other != name);
    let others: Vec<String> = others.map(|(other, section)| format!("\\fB{other}\\fR({section})")).collect();
    others.join(", ").replace('-', "\\-")
}
