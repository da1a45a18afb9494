//! Counts instructions, by valgrind's callgrind.
//!
//! The program starts itself under valgrind, for each row; what is counted is one function, which runs
//! the row. So neither start nor set-up is in the numbers, and they repeat to within a few
//! instructions, on an idle machine and on a busy one. Instructions of the kernel are not counted.

use std::{
    env, fs,
    hint::black_box,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{Row, Run, rows::Question, table::Table};

/// The last argument but one of a program that is counted; the last one is the row's number.
const COUNTED: &str = "--counted";

/// How often a row runs before it is counted, and while it is.
const WARM_UP: u64 = 200;
pub(crate) const TIMES: u64 = 1000;

/// What a row costs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Count {
    /// The row.
    pub name: &'static str,
    /// Instructions for each time that it was done.
    pub instructions: f64,
}

/// Whether the counting can be done here, by a valgrind in the path.
pub fn is_available() -> bool {
    let mut valgrind = Command::new("valgrind");
    let valgrind = valgrind.arg("--version").stdout(Stdio::null());
    valgrind.status().is_ok_and(|status| status.success())
}

/// Counts the instructions of rows. Call it once in `main`, before anything is printed: the program
/// is started again for each of them, with its own arguments, and ends in here.
///
/// # Errors
///
/// If there is no valgrind, or it does not say what is expected of it.
pub fn count(rows: &[&Row]) -> anyhow::Result<Vec<Count>> {
    let args: Vec<_> = env::args().collect();
    if let [.., counted, nth] = &args[..]
        && counted == COUNTED
    {
        let row = rows.get(nth.parse::<usize>()?).context("no such row")?;
        let mut run = row.run();
        run(WARM_UP);
        self::counted(&mut run, TIMES);
        std::process::exit(0);
    }
    let counts = rows.iter().enumerate().map(|(nth, row)| {
        Ok(Count {
            name: row.name(),
            instructions: count_row(&env::current_exe()?, nth)
                .with_context(|| format!("counting {}", row.name()))?,
        })
    });
    counts.collect()
}

/// Counts the instructions of the row of this number, of a program whose `main` is [`tables`], with
/// this one's arguments.
///
/// # Errors
///
/// As [`count`].
pub fn count_row(program: &Path, nth: usize) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=*callgrind::counted*")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(env::args_os().skip(1))
        .args([COUNTED, &nth.to_string()])
        .output()
        .context("cannot start valgrind")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "the program under valgrind failed: {}\n{said}",
            output.status
        );
    }
    let text = fs::read_to_string(file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total
        .context("no total in what valgrind wrote")?
        .trim()
        .parse()?;
    Ok(total as f64 / TIMES as f64)
}

/// Counts all rows, and publishes a table for each question; with words as arguments of the program, of
/// the rows with one of them in their names, and of the first of each, which they stand beside.
///
/// # Errors
///
/// As [`count`] and [`Table::publish`].
pub fn tables(mut questions: Vec<Question>) -> anyhow::Result<()> {
    let args = env::args().skip(1).take_while(|arg| arg != COUNTED);
    // `cargo bench` adds options of its own.
    let words: Vec<_> = args.filter(|arg| !arg.starts_with('-')).collect();
    for question in &mut questions {
        let first = question.rows.first().map(Row::name);
        question.rows.retain(|row| {
            let name = row.name();
            words.is_empty() || Some(name) == first || words.iter().any(|w| name.contains(w))
        });
    }
    let rows: Vec<_> = questions.iter().flat_map(|q| &q.rows).collect();
    let mut counts = count(&rows)?.into_iter();
    for Question { title, rows } in &questions {
        let mut table = Table::new(*title, "instructions");
        for count in counts.by_ref().take(rows.len()) {
            table.push(count.name, count.instructions);
        }
        table.publish()?;
    }
    Ok(())
}

// What is counted: all that is called from here. Something is left to do after the call, so that it
// is one, and no jump.
#[inline(never)]
fn counted(run: &mut Run, times: u64) {
    run(black_box(times));
    black_box(());
}
