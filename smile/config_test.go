package smile_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"smelt/smile"
)

const block = `{
  "format": 1, "base": "clip", "base_model_type": "clip",
  "experts": [
    {"name": "a", "kind": "full", "source": "a", "dtype": "F32"},
    {"name": "b", "kind": "lora", "source": "b", "dtype": "BF16"},
    {"name": "c", "kind": "full", "source": "c", "dtype": "F32"}
  ],
  "num_local_experts": 3, "num_experts_per_tok": 2, "rank_of_router": 16,
  "modules": {
    "z.fc1": {"in": 128, "out": 512, "rank_of_router": 16, "rank_of_expert": [32, "dense", null]},
    "a.fc2": {"in": 512, "out": 128, "rank_of_router": 4, "rank_of_expert": [0, 128, 2], "transposed": true}
  }
}`

func TestConfig(t *testing.T) {
	c, err := smile.ParseConfig([]byte(block))
	if err != nil {
		t.Fatal(err)
	}
	if c.Modules[0].Name != "z.fc1" || c.Modules[1].Name != "a.fc2" {
		t.Errorf("modules %v lost their order", c.Modules)
	}
	m := &c.Modules[0]
	if m.Rows(0) != 32 || m.Rows(1) != 16 || m.Rows(2) != 0 || m.TotalRows() != 48 || m.TotalRank() != 32 {
		t.Errorf("%+v: rows %d, rank %d, want 48 and 32", m, m.TotalRows(), m.TotalRank())
	}
	if got, want := m.Parameters(), int64(48*128+32*512+128*512); got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
	if n := c.Modules[1].TotalRows(); n != 4+128+4 {
		t.Errorf("a router wider than its experts: %d rows, want %d", n, 4+128+4)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := smile.ParseConfig(text)
	if err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("written and read again: %v\n%+v\nwant\n%+v", err, again, c)
	}
}

func TestConfigRefused(t *testing.T) {
	for _, c := range []struct{ old, with, want string }{
		{`"format": 1`, `"format": 2`, "format 2"},
		{`"base": "clip"`, `"bass": "clip"`, "unknown field"},
		{`"num_local_experts": 3`, `"num_local_experts": 4`, "3 experts are listed"},
		{`"num_experts_per_tok": 2`, `"num_experts_per_tok": 4`, "num_experts_per_tok is 4"},
		{`"num_experts_per_tok": 2`, `"num_experts_per_tok": 0`, "num_experts_per_tok is 0"},
		{`"name": "b"`, `"name": "a"`, "not sorted or not unique"},
		{`"name": "b"`, `"name": "z"`, "not sorted"},
		{`[32, "dense", null]`, `[32, "dense"]`, "2 ranks for 3 experts"},
		{`[32, "dense", null]`, `[129, "dense", null]`, "exceeds min(out,in)"},
		{`[32, "dense", null]`, `[-1, "dense", null]`, "rank -1"},
		{`[32, "dense", null]`, `[1.5, "dense", null]`, "rank 1.5"},
		{`[32, "dense", null]`, `["whole", "dense", null]`, "rank"},
		{`"rank_of_router": 4`, `"rank_of_router": 17`, "rank_of_router is 17"},
		{`"rank_of_router": 4`, `"rank_of_router": 0`, "rank_of_router is 0"},
		{`"in": 128`, `"in": 0`, "shape [512,0]"},
		{`"in": 128`, `"in": 99999999999`, "shape"},
		{`"a.fc2"`, `"z.fc1"`, "appears twice"},
	} {
		text := strings.Replace(block, c.old, c.with, 1)
		if text == block {
			t.Fatalf("the block does not hold %q", c.old)
		}
		if _, err := smile.ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.with, err, c.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(block))
	f.Add([]byte(`{"format":1,"experts":[],"modules":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := smile.ParseConfig(data)
		if err != nil {
			return
		}
		for i := range c.Modules {
			c.Modules[i].Parameters()
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := smile.ParseConfig(text); err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("not read again: %v", err)
		}
	})
}
