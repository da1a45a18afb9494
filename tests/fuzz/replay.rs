//! Runs the kept inputs of a fuzzer again, and many that are made of them: the same ones each time. A
//! module of the tests of each crate that has a parser.

use std::{fs, path::Path};

/// How many are made of each kept input, unless `HANDOVER_MUTATIONS` says so.
const MADE: usize = if cfg!(miri) { 0 } else { 300 };

/// Calls `test` with the inputs of this target.
pub(crate) fn run(target: &str, test: fn(&[u8])) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = here.ancestors().map(|dir| dir.join("tests/fuzz/corpus"));
    let corpus = corpus.map(|dir| dir.join(target)).find(|dir| dir.is_dir());
    let mut paths: Vec<_> = fs::read_dir(corpus.expect("kept inputs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 2, "{target} has {} inputs", paths.len());
    let inputs: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let made = std::env::var("HANDOVER_MUTATIONS").ok();
    let made = made.map_or(MADE, |made| made.parse().unwrap());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (path, input) in paths.iter().zip(&inputs) {
        // What is printed last is what a failure is about.
        println!("{}", path.display());
        test(input);
        for nth in 0..made {
            let other = &inputs[random.below(inputs.len())];
            let made = random.change(input, other);
            println!("{}, {nth}: {}", path.display(), made.escape_ascii());
            test(&made);
        }
    }
}

/// Numbers that look random, and are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }

    /// A part of these bytes: where it begins, and where it ends.
    fn part(&mut self, bytes: &[u8]) -> (usize, usize) {
        let from = self.below(bytes.len() + 1);
        let most = [2, 20, bytes.len()][self.below(3)];
        let length = self.below(most.min(bytes.len() - from) + 1);
        (from, from + length)
    }

    /// One to four changes: a bit, a byte, what is left out, said twice, or taken from another input.
    fn change(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        const TELLING: [u8; 12] = *b"\0\n\r:=\"\x7f\x80\xff09%";
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let (from, to) = self.part(&bytes);
            match self.below(5) {
                0 if from < bytes.len() => bytes[from] ^= 1 << self.below(8),
                1 if from < bytes.len() => bytes[from] = TELLING[self.below(TELLING.len())],
                2 => drop(bytes.drain(from..to)),
                3 => {
                    let part = bytes[from..to].to_vec();
                    bytes.splice(to..to, part);
                }
                _ => {
                    let (start, end) = self.part(other);
                    bytes.splice(from..to, other[start..end].iter().copied());
                }
            }
        }
        bytes
    }
}
