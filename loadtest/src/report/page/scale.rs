//! Axes: round ticks, and where a value lies in a drawing.

const MILLION: f64 = 1e6;

/// A linear axis from zero to a round end.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Multiples of a round step, from zero to the end of the axis.
    pub(super) ticks: Vec<f64>,
    step: f64,
}

impl Axis {
    /// Returns an axis with about `count` ticks that reaches `most`. It ends at 1 if `most` is not
    /// above zero.
    pub(super) fn to(most: f64, count: usize) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = round_step(most / count as f64);
        // A float error must not add a tick to an end that is round already.
        let steps = (most / step - 1e-9).ceil().max(1.0) as usize;
        Self { ticks: (0..=steps).map(|at| at as f64 * step).collect(), step }
    }

    /// Returns the end of the axis.
    pub(super) fn end(&self) -> f64 {
        self.ticks.last().copied().unwrap_or(1.0)
    }

    /// Formats a tick: with as many decimals as the step has.
    pub(super) fn label(&self, tick: f64) -> String {
        if tick == 0.0 {
            return "0".to_owned();
        }
        let decimals = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        if self.end() >= MILLION {
            let decimals = usize::from(self.step < MILLION);
            return format!("{:.decimals$} M", tick / MILLION);
        }
        let text = format!("{tick:.decimals$}");
        if decimals == 0 { crate::table::grouped_float(tick) } else { text }
    }
}

/// Returns the ticks of a logarithmic axis that covers these values: powers of ten, with their
/// double and fivefold if there are few.
pub(super) fn log_ticks(least: f64, most: f64) -> Vec<f64> {
    let (least, most) = (least.max(1.0), most.max(least.max(1.0) * 2.0));
    let decades = (most / least).log10();
    let multiples: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = (least.log10().floor() as i32 - 1)..=(most.log10().ceil() as i32);
    let all = powers.flat_map(|power| multiples.iter().map(move |one| one * 10_f64.powi(power)));
    let all: Vec<_> = all.collect();
    let first = all.iter().rposition(|tick| *tick <= least).unwrap_or(0);
    let last = all.iter().position(|tick| *tick >= most * 0.999_999).unwrap_or(all.len() - 1);
    all[first..=last].to_vec()
}

/// Returns the smallest of 1, 2 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * 0.999_999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        for (most, ticks, end) in [
            (9.3, vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], "10"),
            (10.0, vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], "10"),
            (0.07, vec![0.0, 0.02, 0.04, 0.06, 0.08], "0.08"),
            (48_000.0, vec![0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0], "50,000"),
            (3_900_000.0, vec![0.0, 1e6, 2e6, 3e6, 4e6], "4 M"),
            (1_300_000.0, vec![0.0, 5e5, 1e6, 1.5e6], "1.5 M"),
            (0.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "1.0"),
            (f64::NAN, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "1.0"),
        ] {
            let axis = Axis::to(most, 5);
            assert_eq!(axis.ticks.len(), ticks.len(), "{most}: {axis:?}");
            assert!(axis.ticks.iter().zip(&ticks).all(|(is, should)| (is - should).abs() < 1e-9));
            assert_eq!(axis.label(axis.end()), end);
            assert!(axis.ticks.len() <= 8);
        }
    }

    #[test]
    fn logarithmic_ticks_enclose_the_values() {
        assert_eq!(log_ticks(3e6, 4e7), [2e6, 5e6, 1e7, 2e7, 5e7]);
        assert_eq!(log_ticks(1e5, 9e8), [1e5, 1e6, 1e7, 1e8, 1e9]);
        let one = log_ticks(5e6, 5e6);
        assert!(one[0] <= 5e6 && *one.last().unwrap() >= 5e6 && one.len() > 1, "{one:?}");
        assert!(log_ticks(0.0, 0.0).len() > 1);
    }
}
