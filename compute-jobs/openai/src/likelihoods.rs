//! Log-probabilities as OpenAI writes them, of chats and of completions.

use ashlar_compute_api::inference::{LikelyToken, TokenLikelihood};
use serde_json::{Map, Value, json};

/// What stands for a probability of zero, whose logarithm JSON has no number for.
const LOWEST: f32 = -9999.0;

fn nats(of: &LikelyToken) -> f32 {
    if of.log_probability.is_finite() { of.log_probability.max(LOWEST) } else { LOWEST }
}

fn text(of: &LikelyToken) -> String {
    String::from_utf8_lossy(&of.bytes).into_owned()
}

/// Of a chat's tokens.
pub(crate) fn of_chat(tokens: &[TokenLikelihood]) -> Value {
    let one = |of: &LikelyToken| json!({ "token": text(of), "logprob": nats(of), "bytes": of.bytes });
    let content = tokens.iter().map(|likelihood| {
        let mut value = one(&likelihood.token);
        value["top_logprobs"] = likelihood.likeliest.iter().map(one).collect();
        value
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

/// Of a completion's tokens; `offset` counts characters of the text before them and goes on behind them.
pub(crate) fn of_completion(tokens: &[TokenLikelihood], offset: &mut usize) -> Value {
    let (mut texts, mut likelihoods, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for likelihood in tokens {
        let text_of_token = text(&likelihood.token);
        offsets.push(*offset);
        *offset += text_of_token.chars().count();
        texts.push(text_of_token);
        likelihoods.push(nats(&likelihood.token));
        let top = likelihood.likeliest.iter().map(|of| (text(of), json!(nats(of))));
        tops.push(Value::Object(top.collect::<Map<_, _>>()));
    }
    json!({ "tokens": texts, "token_logprobs": likelihoods, "top_logprobs": tops, "text_offset": offsets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same_and_nothing_that_json_lacks() {
        let likely =
            |bytes: &[u8], log_probability| LikelyToken { id: 1, bytes: bytes.to_vec(), log_probability };
        let tokens = [
            TokenLikelihood {
                token: likely(b"h\xc3\xa9", -0.5),
                likeliest: vec![likely(b"a", f32::NEG_INFINITY)],
            },
            TokenLikelihood { token: likely(b"b", -1.0), likeliest: vec![] },
        ];
        let chat = of_chat(&tokens);
        assert_eq!(chat["content"][0]["token"], "hé");
        assert_eq!(chat["content"][0]["bytes"], json!([104, 195, 169]));
        assert_eq!(chat["content"][0]["top_logprobs"][0]["logprob"], -9999.0);
        let mut offset = 3;
        let completion = of_completion(&tokens, &mut offset);
        assert_eq!(completion["text_offset"], json!([3, 5]));
        assert_eq!(completion["token_logprobs"], json!([-0.5, -1.0]));
        assert_eq!((offset, &completion["top_logprobs"][1]), (6, &json!({})));
    }
}
