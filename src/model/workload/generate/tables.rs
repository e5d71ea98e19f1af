//! What was measured: quantiles and counts behind the presets.
//!
//! Source: the Mooncake traces (FAST'25, Apache-2.0), measured. The tool tables come from the first 2,000 requests of
//! the tool-and-agent trace, the chat tables from the conversation trace.

use rand::RngExt;

use crate::kernel::rng::Stream;

/// The quantiles of a measured quantity at [`LEVELS`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Table([f64; 22]);

/// The levels of the quantiles of every table, in percent.
const LEVELS: [f64; 22] = [
    0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0,
    90.0, 95.0, 98.0, 99.0, 99.5, 100.0,
];

impl Table {
    /// Linear between the quantiles.
    pub(super) fn sample(&self, rng: &mut Stream) -> f64 {
        let (low, high, share) = self.draw(rng);
        low + share * (high - low)
    }

    /// Rounded to whole tokens, and geometric between the quantiles: in the long tail of prompts the short ones of an
    /// interval are more frequent, and a straight line would add 2 % to the mean. All quantiles have to be positive.
    pub(super) fn sample_tokens(&self, rng: &mut Stream) -> u32 {
        let (low, high, share) = self.draw(rng);
        (low * (high / low).powf(share)).round() as u32
    }

    /// The quantiles on either side of a random level, and how far between them it is.
    fn draw(&self, rng: &mut Stream) -> (f64, f64, f64) {
        let level = 100.0 * rng.random::<f64>();
        let high = LEVELS.partition_point(|&known| known <= level);
        let share = (level - LEVELS[high - 1]) / (LEVELS[high] - LEVELS[high - 1]);
        (self.0[high - 1], self.0[high], share)
    }
}

/// Chat requests in each minute.
pub(super) const CHAT_PER_MINUTE: [u32; 59] = [
    147, 163, 196, 158, 171, 149, 127, 171, 145, 164, 199, 169, 170, 190, 167, 151, 182, 158, 175,
    205, 186, 192, 207, 196, 160, 226, 169, 196, 203, 195, 220, 184, 180, 174, 209, 193, 230, 166,
    215, 222, 196, 220, 198, 211, 203, 205, 184, 215, 216, 223, 204, 231, 209, 200, 188, 226, 205,
    215, 187,
];

/// Prompt tokens of the first turn of a chat.
pub(super) const CHAT_FIRST_PROMPT: Table = Table([
    891.0, 894.0, 894.0, 897.0, 905.0, 943.0, 1093.2, 1332.0, 1740.8, 3854.8, 5194.0, 7323.2,
    10652.2, 12979.0, 15775.4, 19403.0, 25484.4, 38298.0, 65801.6, 87522.1, 111657.7, 126195.0,
]);

/// Output tokens of the first turn of a chat.
pub(super) const CHAT_FIRST_OUTPUT: Table = Table([
    1.0, 3.0, 7.0, 23.0, 66.6, 121.0, 182.0, 225.0, 266.0, 324.0, 370.0, 412.0, 456.0, 480.0,
    510.0, 548.0, 597.4, 688.0, 859.1, 1033.0, 1283.7, 2000.0,
]);

/// Output tokens of the later turns of a chat.
pub(super) const CHAT_LATER_OUTPUT: Table = Table([
    1.0, 3.0, 9.0, 20.0, 45.0, 89.2, 139.0, 192.0, 236.4, 304.0, 361.0, 409.0, 458.0, 485.0, 519.0,
    559.8, 621.0, 746.0, 971.6, 1379.8, 1994.6, 2000.0,
]);

/// From the arrival of a turn of a chat to the arrival of the next, in seconds.
pub(super) const CHAT_GAP_SECS: Table = Table([
    0.0, 12.0, 18.0, 27.0, 39.0, 51.0, 57.0, 66.0, 72.0, 93.0, 117.0, 150.0, 201.0, 240.0, 285.0,
    345.0, 426.0, 546.0, 645.0, 940.6, 1341.8, 3015.0,
]);

/// Tokens of a second turn beyond the prompt and the output of the first; negative where not all of those are sent
/// again. The highest value is lowered so that the mean is as measured, as in the next three tables.
pub(super) const CHAT_NEW_TOKENS_SECOND: Table = Table([
    -1197.0, -74.0, -62.0, -47.0, -6.0, 5.0, 7.0, 9.0, 11.0, 18.0, 29.0, 77.0, 450.0, 1509.0,
    3350.0, 4142.0, 5478.0, 8221.0, 13741.0, 19868.0, 30858.0, 47597.0,
]);

/// The same for later turns, which bring fewer attachments.
pub(super) const CHAT_NEW_TOKENS_LATER: Table = Table([
    -1008.0, -53.0, -16.0, -6.0, 5.0, 7.0, 8.0, 10.0, 11.0, 15.0, 22.0, 37.0, 80.0, 127.0, 244.0,
    516.0, 2129.0, 5423.0, 9227.0, 13559.0, 17296.0, 17296.0,
]);

/// Share of the previous prompt that is left at its start when a turn rewrites the rest.
pub(super) const CHAT_EDIT_KEPT: Table = Table([
    0.015, 0.031, 0.034, 0.047, 0.066, 0.078, 0.095, 0.106, 0.121, 0.154, 0.188, 0.245, 0.314,
    0.366, 0.411, 0.476, 0.546, 0.709, 0.87, 0.909, 0.935, 0.95,
]);

/// Length of a rewritten prompt relative to the previous one, where that had less than 20,000 tokens.
pub(super) const CHAT_EDIT_LENGTH_SHORT: Table = Table([
    0.174, 0.284, 0.404, 0.518, 0.602, 0.668, 0.717, 0.776, 0.823, 0.919, 0.981, 1.027, 1.09,
    1.136, 1.217, 1.295, 1.402, 1.673, 2.199, 2.525, 2.845, 7.522,
]);

/// The same where the previous prompt was longer.
pub(super) const CHAT_EDIT_LENGTH_LONG: Table = Table([
    0.2, 0.289, 0.363, 0.417, 0.561, 0.636, 0.659, 0.689, 0.75, 0.849, 0.912, 0.971, 1.011, 1.024,
    1.068, 1.09, 1.155, 1.222, 1.377, 1.47, 1.549, 3.515,
]);

/// Output tokens of the requests that only the conversation trace has.
pub(super) const CHAT_EXTRA_OUTPUT: Table = Table([
    3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 5.0, 7.0, 11.0, 13.0, 18.0, 24.0, 25.0, 28.0, 30.0, 34.0,
    39.0, 46.0, 53.0, 60.0, 79.0,
]);

/// Prompt tokens of the calls of tool A that answer in three tokens.
pub(super) const TOOL_A_LONG_PROMPT: Table = Table([
    6164.0, 6164.7, 6166.0, 6167.3, 6172.0, 6182.0, 6211.6, 6289.5, 6425.6, 6583.0, 6736.0, 6908.6,
    7075.2, 7151.5, 7237.4, 7340.2, 7494.6, 8092.4, 8980.0, 9533.1, 9822.0, 12289.0,
]);

/// Prompt tokens of the other calls of tool A.
pub(super) const TOOL_A_SHORT_PROMPT: Table = Table([
    6165.0, 6165.0, 6165.0, 6166.0, 6168.0, 6169.0, 6170.0, 6172.0, 6175.0, 6198.6, 6501.0, 6629.6,
    6777.0, 6864.5, 6965.4, 7054.1, 7121.2, 7354.1, 7608.2, 8261.0, 8851.6, 11124.0,
]);

/// Output tokens of the other calls of tool A.
pub(super) const TOOL_A_OUTPUT: Table = Table([
    1.0, 18.0, 22.0, 23.0, 24.0, 25.0, 25.0, 26.0, 26.0, 27.0, 28.0, 30.0, 33.0, 34.0, 35.0, 37.0,
    40.0, 44.0, 51.1, 57.0, 87.0, 191.0,
]);

/// Prompt tokens of the calls of tool B.
pub(super) const TOOL_B_PROMPT: Table = Table([
    2927.0, 2960.1, 2968.2, 2997.1, 3063.2, 3109.3, 3119.2, 3127.8, 3133.3, 3146.4, 3158.0, 3179.0,
    3217.1, 3268.0, 3375.2, 3990.5, 4124.0, 4329.6, 4640.5, 5058.6, 5239.3, 5747.0,
]);

/// Output tokens of the calls of tool B.
pub(super) const TOOL_B_OUTPUT: Table = Table([
    13.0, 14.0, 14.2, 15.0, 16.0, 17.0, 17.0, 18.0, 18.0, 19.0, 20.0, 20.0, 21.0, 21.0, 22.0, 22.4,
    23.0, 24.0, 26.0, 29.0, 30.3, 33.0,
]);
