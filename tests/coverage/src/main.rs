// SPDX-License-Identifier: GPL-2.0

//! Reports which lines of the module and of the core the guests executed. Input are the addresses that the plugin
//! (`plugin.rs`) wrote for each guest, and the debug information of the module and the kernel that it ran.

mod guest;
mod image;
mod lcov;
mod lines;
#[cfg(test)]
mod pages;
mod reasons;
mod scope;
mod source;
mod table;

use anyhow::{Context as _, Result};
use clap::Parser;
use guest::Guest;
use image::Image;
use lines::{File, Gathered, Rows, Total};
use scope::Scope;
use std::{
    collections::BTreeMap,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Line coverage of rust_dmirror.
#[derive(Parser)]
struct Arguments {
    /// A guest: its directory in build/vm, the module with debug information, and the kernel, if that has some
    #[arg(
        long = "guest",
        required = true,
        value_name = "DIRECTORY,MODULE.ko[,VMLINUX]"
    )]
    guests: Vec<Guest>,
    /// The repository, as the compiler saw it
    #[arg(long)]
    repo: PathBuf,
    /// The kernel's source, as the compiler saw it
    #[arg(long)]
    kernel: PathBuf,
    /// What ran, for the report
    #[arg(long, default_value = "")]
    conditions: String,
    /// LCOV tracefile to write
    #[arg(long)]
    lcov: PathBuf,
    /// Markdown to write
    #[arg(long)]
    table: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let here = arguments.repo.join("tests/coverage");
    let scope = Scope::read(&here.join("scope.toml"))?;
    let mut files = module_files(&arguments, &scope)?;
    files.extend(core_files(&arguments, &scope)?);
    // A wrong reason fails the run, but the report is written all the same.
    let reasons = reasons::apply(&here.join("reasons.toml"), &mut files);
    write(&arguments, &files, &scope)?;
    summary(&files, &scope);
    reasons
}

/// Groups guests by the image that they ran.
fn by_image<'a>(
    guests: &'a [Guest],
    image: impl Fn(&'a Guest) -> Option<&'a Path>,
) -> BTreeMap<&'a Path, Vec<(usize, &'a Guest)>> {
    let mut images: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (number, guest) in guests.iter().enumerate() {
        if let Some(path) = image(guest) {
            images.entry(path).or_default().push((number, guest));
        }
    }
    images
}

fn module_files(arguments: &Arguments, scope: &Scope) -> Result<Vec<File>> {
    let mut gathered = Gathered::default();
    for (path, guests) in by_image(&arguments.guests, |guest| Some(&guest.module)) {
        let image = Image::open(path)?;
        let rows = Rows::of(
            &image,
            &arguments.repo,
            |_| true,
            |file| scope.has_file(file),
        )?;
        anyhow::ensure!(!rows.is_empty(), "{}: no debug information", path.display());
        gathered.declare(&rows);
        for (number, guest) in guests {
            let found = guest
                .in_modules(&guest.addresses()?)
                .with_context(|| guest.name())?;
            let executed = found
                .executed
                .iter()
                .filter_map(|(section, offset)| Some(image.section(section)?.start + offset));
            let mut executed: Vec<_> = executed.collect();
            executed.sort_unstable();
            gathered.execute(&rows, &executed, number);
            println!(
                "{}: {} instructions of the module executed; {} in no module that a step reported, {} dropped as ambiguous",
                guest.name(),
                executed.len(),
                found.unknown,
                found.ambiguous
            );
        }
    }
    gathered.files(&arguments.repo, false, scope)
}

fn core_files(arguments: &Arguments, scope: &Scope) -> Result<Vec<File>> {
    let mut gathered = Gathered::default();
    for (path, guests) in by_image(&arguments.guests, |guest| guest.kernel.as_deref()) {
        let image = Image::open(path)?;
        let core = |file: &str| scope.has_core_file(file);
        let rows = Rows::of(&image, &arguments.kernel, core, core)?;
        anyhow::ensure!(!rows.is_empty(), "{}: no debug information", path.display());
        gathered.declare(&rows);
        for (number, guest) in guests {
            let addresses = guest.addresses()?;
            gathered.execute(&rows, &addresses, number);
        }
    }
    let files = gathered.files(&arguments.kernel, true, scope)?;
    scope.check(&files)?;
    Ok(files)
}

fn write(arguments: &Arguments, files: &[File], scope: &Scope) -> Result<()> {
    let path = &arguments.lcov;
    let mut out =
        BufWriter::new(std::fs::File::create(path).with_context(|| path.display().to_string())?);
    for file in files {
        let top = if file.core {
            &arguments.kernel
        } else {
            &arguments.repo
        };
        lcov::write(&mut out, top, file)?;
    }
    out.flush()?;
    let mut text = String::new();
    table::write(&mut text, files, scope, &arguments.conditions)?;
    std::fs::write(&arguments.table, text).with_context(|| arguments.table.display().to_string())
}

fn summary(files: &[File], scope: &Scope) {
    let line = |name: &str, total: Total| {
        let (lines, executed) = (total.lines, total.executed);
        let (missed, explained) = (total.missed(), total.explained);
        println!(
            "{name}: {executed} of {lines} lines, {} %; of {missed} others, {explained} have a reason",
            total.percent()
        );
    };
    for directory in scope.directories() {
        let of = files
            .iter()
            .filter(|file| !file.core && scope.directory(&file.path) == Some(directory));
        line(&format!("{directory}/"), Total::of(of));
    }
    line("the core", Total::of(files.iter().filter(|file| file.core)));
}
