//! Counts the instructions of each pure step and compares them with those in
//! `benches/instructions/saved.toml`. A regression shows without a timer, on any machine and beside
//! any load.
//!
//! `--check` fails if a count differs by more than the tolerance, in either direction: if a step
//! that became cheaper kept its old count, it could become dearer again unnoticed. `--save` writes
//! the file. Without either, the table is only shown, and nothing fails: so it is in `cargo bench`.
//!
//! The bench runs itself under callgrind, which counts only inside of [`measured`] and writes what
//! it has counted whenever [`finished`] is called. `callgrind_annotate` shows what a step spends
//! where, from the files in `target/instructions-counted`.
//!
//! The crate gungraun does the same with a program of its own that must be installed in the same
//! version, and keeps its baselines as callgrind's files in the target folder. Here they are to be
//! a short text in the repository.

mod counts;
#[path = "../../tests/sim/node.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod node;
mod steps;
#[path = "../support/mod.rs"]
mod support;

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use fanfare::metrics::heap::Counted;

use counts::{CHECK, SAVE, Saved, compare, text};
use steps::{STEPS, Scene, Step};

/// Workers of the nodes that steps are measured in.
const WORKERS: usize = 1;
/// How often a step runs before it is measured, so that buffers and tables have their size.
const WARM_UPS: usize = 300;
/// How often a step is measured. The count is the mean.
const TIMES: u64 = 100;

/// The profile that the steps are built with.
const PROFILE: &str = "instructions";
/// The argument by which the bench runs under callgrind.
const COUNTING: &str = "--counting";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/saved.toml");

/// The allocator of a node.
#[global_allocator]
static ALLOCATOR: Counted<mimalloc::MiMalloc> = Counted(mimalloc::MiMalloc);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if has(COUNTING) {
        STEPS.iter().for_each(run);
        return ExitCode::SUCCESS;
    }
    let (saves, checks) = (has("--save"), has("--check"));
    match (report(saves), saves || checks) {
        (Ok(problems), _) if problems.is_empty() => ExitCode::SUCCESS,
        (Ok(problems), must_match) => {
            println!("{}\nTo save the counts: {SAVE}", problems.join("\n"));
            if must_match { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        (Err(error), true) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
        (Err(error), false) => {
            println!("instructions: not counted: {error}");
            ExitCode::SUCCESS
        }
    }
}

/// Counts the steps. Saves the counts, or prints the comparison with the saved ones and returns
/// what is wrong.
fn report(saves: bool) -> Result<Vec<String>, Box<dyn Error>> {
    let counts = count()?;
    let rustc = compiler()?;
    if saves {
        fs::write(FILE, text(&rustc, &counts))?;
        println!("saved {} counts in {FILE}", counts.len());
    }
    let saved: Saved = toml::from_str(&fs::read_to_string(FILE)?)?;
    let compared = compare(&saved, &rustc, &counts);
    print!("{}", compared.table);
    Ok(compared.problems)
}

/// Runs this program under callgrind. Returns the instructions of each step.
fn count() -> Result<Vec<(&'static str, u64)>, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let folder = folder(&program)?;
    let name = module_path!();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={name}::measured*"))
        .arg(format!("--dump-before={name}::finished*"))
        .arg(format!("--callgrind-out-file={}", folder.join("counts").display()))
        .arg(&program)
        .arg(COUNTING)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind cannot be run ({error}); please install it"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("valgrind ended with {}:\n{errors}", output.status).into());
    }
    let count = |(number, step): (usize, &Step)| {
        let path = folder.join(format!("counts.{number}"));
        let dump = fs::read_to_string(&path).map_err(|error| format!("{path:?}: {error}"))?;
        let total = dump.lines().find_map(|line| line.strip_prefix("totals: "));
        let total: u64 = total.ok_or_else(|| format!("{path:?} has no totals"))?.parse()?;
        match total / TIMES {
            0 => Err(format!("{path:?}: no instruction of {} was counted", step.name).into()),
            count => Ok((step.name, count)),
        }
    };
    (1..).zip(&STEPS).map(count).collect()
}

/// Creates an empty folder for callgrind's files in the target folder.
///
/// # Errors
/// If the program was built with another profile, whose counts are others.
fn folder(program: &Path) -> Result<PathBuf, Box<dyn Error>> {
    // The program is in target/PROFILE/deps.
    let built = program.ancestors().nth(2).ok_or("the program is in no target folder")?;
    if !built.ends_with(PROFILE) {
        return Err(format!("the counts are of the profile {PROFILE}; run {CHECK}").into());
    }
    let folder = built.with_file_name("instructions-counted");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Returns the version of the compiler that cargo uses.
fn compiler() -> Result<String, Box<dyn Error>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn run(step: &Step) {
    let mut scene = (step.set)();
    for _ in 0..WARM_UPS {
        scene.run();
        scene.reset();
    }
    for _ in 0..TIMES {
        measured(&mut *scene);
        scene.reset();
    }
    finished(step);
}

/// Runs a step once. Callgrind counts only here.
#[inline(never)]
fn measured(scene: &mut dyn Scene) {
    scene.run();
    // Keeps the call above from being a jump, with which callgrind would leave this function.
    black_box(());
}

/// Makes callgrind write what it has counted since the last call.
#[inline(never)]
fn finished(step: &Step) {
    black_box(step);
}
