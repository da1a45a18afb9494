//! The terminal: what is drawn on, and what is typed.

use std::{
    io::{self, IsTerminal},
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use handover::Status;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};

use super::{End, draw::draw, model::Model, poll::Update};
use crate::show::clean;

/// How long a new status may wait for who waits for a key.
const LOOK: Duration = Duration::from_millis(50);

/// Returns true if it can be drawn on, and typed at.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Shows the service until it has gone or the user has had enough. The terminal is then as it was.
pub(super) fn run(first: Box<Status>, updates: &Receiver<Update>) -> End {
    // A panic restores it as well.
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(err) => {
            ratatui::restore();
            return End::Terminal(err);
        }
    };
    let end = watch(&mut terminal, first, updates);
    let restored = ratatui::try_restore();
    match (end, restored) {
        (Ok(end), Ok(())) => end,
        (Err(err), _) | (_, Err(err)) => End::Terminal(err),
    }
}

fn watch(
    terminal: &mut DefaultTerminal,
    first: Box<Status>,
    updates: &Receiver<Update>,
) -> io::Result<End> {
    let mut model = Model::new(first, Instant::now());
    let mut news = true;
    loop {
        if news {
            terminal.draw(|frame| draw(frame, &model))?;
        }
        news = false;
        if event::poll(LOOK)? {
            match event::read()? {
                Event::Key(key) if quits(key) => return Ok(End::Quit),
                Event::Resize(..) => news = true,
                _ => {}
            }
        }
        loop {
            match updates.try_recv() {
                Ok(Update::Status(status)) => model.update(status, Instant::now()),
                Ok(Update::NoAnswer(err)) => model.no_answer = Some(clean(&err.to_string())),
                Ok(Update::Other(event)) => model.no_answer = Some(clean(&event.to_line())),
                Ok(Update::Gone(err)) => return Ok(End::Gone(err)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(End::Quit),
            }
            news = true;
        }
    }
}

fn quits(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            // The terminal makes no signal of it while it is drawn on.
            KeyCode::Char('c') => control,
            _ => false,
        }
}
