package analysis

import (
	"strconv"
	"strings"
)

// kinds are the usual names of what a linear layer does, by the last part of its
// module's name in the checkpoints of the architectures.
var kinds = map[string]string{
	"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "out_proj": "o",
	"query": "q", "key": "k", "value": "v", "q_lin": "q", "k_lin": "k", "v_lin": "v", "out_lin": "o",
	"c_attn": "qkv", "qkv_proj": "qkv", "query_key_value": "qkv", "gate_proj": "gate", "up_proj": "up", "down_proj": "down",
	"gate_up_proj": "gate_up", "wi": "up", "wi_0": "gate", "wi_1": "up", "wo": "down",
	"lin1": "fc1", "lin2": "fc2", "c_fc": "fc1", "dense_h_to_4h": "fc1", "dense_4h_to_h": "fc2",
}

// place reads a module's name: kind, tower and number of the block.
func place(module string) (kind, tower string, depth int) {
	parts := strings.Split(module, ".")
	depth = -1
	for i, p := range parts {
		if n, err := strconv.Atoi(p); err == nil && n >= 0 {
			tower, depth = strings.Join(parts[:i], "."), n
			break
		}
	}
	last := parts[len(parts)-1]
	kind = last
	if k, ok := kinds[last]; ok {
		kind = k
	}
	if len(parts) > 1 {
		switch before := parts[len(parts)-2]; {
		case before == "EncDecAttention":
			kind = "cross_" + kind
		case last == "c_proj" && before == "mlp":
			kind = "fc2"
		case last == "c_proj":
			kind = "o"
		case last == "dense" && (before == "output" || before == "attention"):
			kind = "o"
			if before == "output" && (len(parts) < 3 || parts[len(parts)-3] != "attention") {
				kind = "fc2"
			}
		case last == "dense" && before == "intermediate":
			kind = "fc1"
		}
	}
	return kind, tower, depth
}
