//! Processes that end, or are stopped for a while, at any of their await points.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A process that is gone after so many steps. A step is a poll: whatever the process awaits, it may end there.
pub(crate) struct Mortal<F> {
    life: Option<Pin<Box<F>>>,
    steps_left: u32,
}

impl<F: Future> Mortal<F> {
    pub(crate) fn new(life: F, steps: u32) -> Self {
        Self { life: Some(Box::pin(life)), steps_left: steps }
    }
}

impl<F: Future> Future for Mortal<F> {
    /// None: it died.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.steps_left == 0 {
            self.life = None;
        }
        self.steps_left = self.steps_left.saturating_sub(1);
        match &mut self.life {
            Some(life) => life.as_mut().poll(context).map(Some),
            None => Poll::Ready(None),
        }
    }
}

/// A process that stands still after so many steps until `pause` is over.
pub(crate) struct Paused<F, P> {
    life: Pin<Box<F>>,
    steps_left: u32,
    pause: Option<Pin<Box<P>>>,
    on_pause: Box<dyn Fn() + Send>,
}

impl<F, P> Paused<F, P> {
    /// `pause` is begun when the process is stopped, which `on_pause` is told.
    pub(crate) fn new(life: F, steps: u32, pause: P, on_pause: impl Fn() + Send + 'static) -> Self {
        Self { life: Box::pin(life), steps_left: steps, pause: Some(Box::pin(pause)), on_pause: Box::new(on_pause) }
    }
}

impl<F: Future, P: Future> Future for Paused<F, P> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.steps_left > 0 {
            self.steps_left -= 1;
            if self.steps_left == 0 {
                (self.on_pause)();
            }
            return self.life.as_mut().poll(context);
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        self.life.as_mut().poll(context)
    }
}
