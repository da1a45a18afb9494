use std::{fmt, hint::black_box};

/// Does an operation so many times.
pub type Run = Box<dyn FnMut(u64) + Send>;

/// One thing that is measured.
pub struct Row {
    name: &'static str,
    make: Box<dyn Fn(usize) -> Vec<Run>>,
}

impl Row {
    /// A row whose runs are made for so many threads that share what is measured.
    pub fn new(name: &'static str, make: impl Fn(usize) -> Vec<Run> + 'static) -> Self {
        Self {
            name,
            make: Box::new(make),
        }
    }

    /// An operation on a clone, one to each thread, of what `state` makes.
    pub fn of<S: Clone + Send + 'static>(
        name: &'static str,
        state: impl Fn() -> S + 'static,
        operation: impl Fn(&mut S) + Copy + Send + 'static,
    ) -> Self {
        Self::each(name, state, S::clone, operation)
    }

    /// An operation on what `own` makes for each thread of what they share, which `shared` makes.
    pub fn each<S, T: Send + 'static>(
        name: &'static str,
        shared: impl Fn() -> S + 'static,
        own: impl Fn(&S) -> T + 'static,
        operation: impl Fn(&mut T) + Copy + Send + 'static,
    ) -> Self {
        Self::new(name, move |threads| {
            let shared = shared();
            let runs = (0..threads).map(|_| -> Run {
                let mut own = own(&shared);
                Box::new(move |times| {
                    for _ in 0..times {
                        operation(black_box(&mut own));
                    }
                })
            });
            runs.collect()
        })
    }

    /// What it is called: the crate, a slash, the operation.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What does it, for each of so many threads.
    pub fn runs(&self, threads: usize) -> Vec<Run> {
        (self.make)(threads)
    }

    /// What does it on one thread.
    pub fn run(&self) -> Run {
        let mut runs = self.runs(1);
        runs.swap_remove(0)
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Row").field(&self.name).finish()
    }
}
