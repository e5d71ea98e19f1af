//! Predictors on series whose next value is known.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::kernel::rng::stream;
use crate::model::planner::predict::arima::Fit;
use crate::model::request::{Prompt, Request};

fn ahead(steps: u32) -> Ahead {
    Ahead { now: Time::ZERO, interval: Span::from_secs(60), steps }
}

fn after(mut predictor: impl Predictor, values: &[f64], steps: u32) -> f64 {
    for &value in values {
        predictor.observe(value);
    }
    predictor.predict(ahead(steps)).unwrap()
}

fn close(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} instead of {expected}");
}

fn all() -> Vec<PredictorSpec> {
    vec![
        PredictorSpec::Last,
        PredictorSpec::Average(4),
        PredictorSpec::Trend(4),
        PredictorSpec::HoltWinters(HoltWintersConfig::with_period(3)),
        PredictorSpec::Kalman(KalmanConfig::default()),
        PredictorSpec::Arima,
    ]
}

#[test]
fn a_constant_stays_constant() {
    for spec in all() {
        let mut predictor = spec.build();
        assert_eq!(predictor.predict(ahead(1)), None, "{spec:?}");
        for _ in 0..40 {
            predictor.observe(7.25);
            close(predictor.predict(ahead(3)).unwrap(), 7.25, 1e-9);
        }
    }
}

#[test]
fn simple_ones_look_at_the_last_few() {
    let values = [9.0, 1.0, 2.0, 6.0];
    close(after(LastValue::default(), &values, 5), 6.0, 0.0);
    close(after(MovingAverage::new(3), &values, 1), 3.0, 1e-12);
    close(after(MovingAverage::new(100), &values, 1), 4.5, 1e-12);
}

#[test]
fn lines_are_followed() {
    let line: Vec<f64> = (0..60).map(|t| 5.0 + 0.75 * f64::from(t)).collect();
    for steps in [1, 4] {
        let expected = 5.0 + 0.75 * f64::from(59 + steps);
        close(after(LinearTrend::new(10), &line, steps), expected, 1e-9);
        close(after(Arima::new(), &line, steps), expected, 1e-6);
        let config = HoltWintersConfig::with_period(6);
        close(after(HoltWinters::new(config), &line, steps), expected, 1e-9);
        // What the filter takes the first value for is forgotten slowly.
        close(after(Kalman::new(KalmanConfig::default()), &line, steps), expected, 0.02);
    }
    close(after(LinearTrend::new(10), &line[..1], 3), 5.0, 0.0);
}

/// A line with an additive season is followed exactly from the end of the second season on, whatever the weights.
#[test]
fn seasons_are_followed() {
    let season = [4.0, -1.0, -5.0, 2.0];
    let value = |t: u32| 100.0 + 1.5 * f64::from(t) + season[t as usize % 4];
    let config = HoltWintersConfig { level: 0.3, trend: 0.9, season: 0.6, period: 4 };
    let mut predictor = HoltWinters::new(config);
    for t in 0..100 {
        if t >= 8 {
            for steps in 1..=9 {
                close(predictor.predict(ahead(steps)).unwrap(), value(t + steps - 1), 1e-9);
            }
        }
        predictor.observe(value(t));
    }
}

/// A season whose level jumps is caught up with.
#[test]
fn seasons_adapt() {
    let value = |t: u32| if t < 40 { 10.0 } else { 50.0 } + f64::from(t % 4);
    let mut predictor = HoltWinters::new(HoltWintersConfig::with_period(4));
    (0..120).for_each(|t| predictor.observe(value(t)));
    close(predictor.predict(ahead(1)).unwrap(), value(120), 0.5);
}

/// The filter is linear in what it observes, so its prediction is that of the least-squares problem it solves: the path
/// of level and trend with the least sum of squares of all noises, each over its variance.
#[test]
fn the_filter_solves_its_least_squares_problem() {
    let config = KalmanConfig { q_level: 2.0, q_trend: 0.5, r: 3.0, points_min: 1 };
    let values = [3.0, 8.0, 4.0, 11.0, 9.0, 16.0];
    // Unknowns: level and trend at every point. Rows: weight x (sum of coefficient x unknown - right-hand side).
    let unknowns = 2 * values.len();
    let mut rows = vec![
        // The first value sets the level; its variance and that of the trend are 1000.
        (1e-3, vec![(0, 1.0)], values[0]),
        (1e-3, vec![(1, 1.0)], 0.0),
    ];
    for (point, &value) in values.iter().enumerate().skip(1) {
        let (level, trend) = (2 * point, 2 * point + 1);
        let moved = vec![(level, 1.0), (level - 2, -1.0), (trend - 2, -1.0)];
        rows.push((1.0 / config.q_level, moved, 0.0));
        rows.push((1.0 / config.q_trend, vec![(trend, 1.0), (trend - 2, -1.0)], 0.0));
        rows.push((1.0 / config.r, vec![(level, 1.0)], value));
    }
    let mut matrix = vec![vec![0.0; unknowns + 1]; unknowns];
    for (weight, terms, right) in rows {
        for &(i, a) in &terms {
            for &(j, b) in &terms {
                matrix[i][j] += weight * a * b;
            }
            matrix[i][unknowns] += weight * a * right;
        }
    }
    let path = solve(matrix);
    let (level, trend) = (path[unknowns - 2], path[unknowns - 1]);
    for steps in [1, 2, 7] {
        let expected = level + f64::from(steps) * trend;
        close(after(Kalman::new(config), &values, steps), expected, 1e-9);
    }
}

/// Gauss, with pivots.
fn solve(mut matrix: Vec<Vec<f64>>) -> Vec<f64> {
    let size = matrix.len();
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))
            .unwrap();
        matrix.swap(column, pivot);
        let row = matrix[column].clone();
        for (_, values) in matrix.iter_mut().enumerate().filter(|(other, _)| *other != column) {
            let factor = values[column] / row[column];
            for (value, pivot) in values.iter_mut().zip(&row) {
                *value -= factor * pivot;
            }
        }
    }
    (0..size).map(|row| matrix[row][size] / matrix[row][row]).collect()
}

#[test]
fn few_points_are_no_trend() {
    let values = [1.0, 2.0, 3.0, 4.0];
    close(after(Kalman::new(KalmanConfig::default()), &values, 1), 4.0, 0.0);
    close(after(Arima::new(), &values, 1), 4.0, 0.0);
    let five = [1.0, 2.0, 3.0, 4.0, 5.0];
    assert!(after(Kalman::new(KalmanConfig::default()), &five, 1) > 5.5);
}

fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = stream(seed, 0);
    (0..count).map(|_| StandardNormal.sample(&mut rng)).collect()
}

/// x(t) = 0.6 x(t-1) - 0.3 x(t-2) + noise around a mean of 20. With 256 values, a coefficient has a standard error of
/// about 0.06.
#[test]
fn an_autoregression_is_recognised() {
    let mut errors = [0.0_f64; 2];
    let seeds = 40;
    for seed in 0..seeds {
        let mut series = vec![0.0, 0.0];
        for noise in noise(seed, 300) {
            let [.., before, last] = series[..] else { unreachable!() };
            series.push(0.6 * last - 0.3 * before + noise);
        }
        let series: Vec<f64> = series[46..].iter().map(|value| value + 20.0).collect();
        let fit = Fit::new(series.clone());
        assert!(fit.order() >= 2, "{:?}", fit.coefficients);
        let [.., before, last] = series[..] else { unreachable!() };
        let expected = 20.0 + 0.6 * (last - 20.0) - 0.3 * (before - 20.0);
        errors[0] += (fit.forecast(1) - expected) / f64::from(seeds as u32);
        errors[1] += (fit.forecast(1) - expected).abs() / f64::from(seeds as u32);
        // Far ahead only the mean is left.
        close(fit.forecast(200), 20.0, 0.5);
    }
    assert!(errors[0].abs() < 0.06 && errors[1] < 0.2, "bias and mean error: {errors:?}");
}

#[test]
fn noise_has_no_memory_and_a_walk_has_one() {
    let noise = noise(7, 256);
    let fit = Fit::new(noise.iter().map(|value| value + 50.0).collect());
    close(fit.forecast(1), 50.0, 0.4);
    let mut sum = 1000.0;
    let walk: Vec<f64> = noise
        .iter()
        .map(|step| {
            sum += step;
            sum
        })
        .collect();
    // Of a random walk nothing is known but where it is.
    close(after(Arima::new(), &walk, 1), sum, 0.5);
}

#[test]
fn an_oracle_knows() {
    let values = [10.0, 20.0, 30.0, 40.0].into();
    let future = Future { values, interval: Span::from_secs(30) };
    let oracle = Oracle::new(future);
    let at = |secs, steps| {
        let now = Time::ZERO + Span::from_secs(secs);
        oracle.predict(Ahead { now, interval: Span::from_secs(60), steps }).unwrap()
    };
    close(at(0, 1), 15.0, 1e-12);
    close(at(0, 2), 35.0, 1e-12);
    close(at(45, 1), (15.0 * 20.0 + 30.0 * 30.0 + 15.0 * 40.0) / 60.0, 1e-12);
    close(at(90, 1), 20.0, 1e-12);
    close(at(600, 1), 0.0, 0.0);
}

fn arriving(secs: u64, prompt_tokens: u32, output_tokens: u32) -> Request {
    Request::new(
        0,
        Time::ZERO + Span::from_secs(secs),
        Prompt::unique(prompt_tokens),
        output_tokens,
    )
}

/// Nothing arrives in the second of three intervals: the lengths there are those of all three requests.
#[test]
fn the_future_is_read_from_the_source() {
    let requests = [arriving(1, 100, 10), arriving(9, 300, 20), arriving(20, 800, 60)];
    let foresight = Foresight::of(&mut requests.into_iter(), Span::from_secs(10)).unwrap();
    assert_eq!(*foresight.rate.values, [0.2, 0.0, 0.1]);
    assert_eq!(*foresight.isl.values, [200.0, 400.0, 800.0]);
    assert_eq!(*foresight.osl.values, [15.0, 30.0, 60.0]);
    let nothing = Foresight::of(&mut std::iter::empty(), Span::from_secs(10)).unwrap();
    assert!(nothing.rate.values.is_empty());
}

fn observe(series: &mut Series, values: &[f64]) {
    for &value in values {
        series.observe(value);
    }
}

#[test]
fn zeros_at_the_start_are_skipped() {
    let mut series = Series::new(PredictorSpec::Average(10).build(), false);
    observe(&mut series, &[0.0, 0.0, 6.0, 0.0]);
    close(series.predict(ahead(1)).unwrap(), 3.0, 1e-12);
    observe(&mut series, &[f64::NAN, -1.0]);
    close(series.predict(ahead(1)).unwrap(), 1.5, 1e-12);
}

#[test]
fn nothing_below_zero_is_predicted() {
    let mut series = Series::new(PredictorSpec::Trend(10).build(), false);
    observe(&mut series, &[30.0, 20.0, 10.0]);
    close(series.predict(ahead(2)).unwrap(), 0.0, 0.0);
}

/// Growth by a factor is a line of logarithms.
#[test]
fn logarithms_follow_growth() {
    let mut series = Series::new(PredictorSpec::Trend(10).build(), true);
    (1..8).for_each(|t| series.observe(2_f64.powi(t) - 1.0));
    close(series.predict(ahead(1)).unwrap(), 255.0, 1e-9);
}

#[test]
fn predictors_survive_anything() {
    let mut rng = stream(8, 0);
    for spec in all() {
        for _ in 0..30 {
            let mut series = Series::new(spec.build(), rng.random());
            for _ in 0..rng.random_range(0..60) {
                let scale = 10_f64.powi(rng.random_range(-20..20));
                series.observe([0.0, scale, 1.0, f64::INFINITY][rng.random_range(0..4)]);
                let predicted = series.predict(ahead(rng.random_range(1..5)));
                assert!(
                    predicted.is_none_or(|value| value.is_finite() && value >= 0.0),
                    "{spec:?}"
                );
            }
        }
    }
}
