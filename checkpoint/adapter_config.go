package checkpoint

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"smelt/internal/ojson"
)

// maxPatterns is how many entries a pattern map of an adapter may have.
const maxPatterns = 1 << 14

// adapterSettings is what of an adapter_config.json decides how the tensors
// are to be read.
type adapterSettings struct {
	rank          int
	alpha         float64
	ranks, alphas []patternValue
	rsLoRA        bool
	fanInFanOut   bool
	bias          string // "none", "all", "lora_only"
	loraBias      bool
	saved         []string // modules_to_save
	target        func(module string) (bool, error)
}

type patternValue struct {
	pattern *pattern
	value   float64
}

// mergeFirst is what to do with an adapter that is no plain low-rank update.
const mergeFirst = "merge it in PEFT (merge_and_unload) and give the merged checkpoint"

// refusedSettings are the keys that must have a neutral value (null, false, 0
// or empty), with the reason.
var refusedSettings = map[string]string{
	"use_dora":                "DoRA rescales the base's weight: " + mergeFirst,
	"loftq_config":            "LoftQ replaces the base's weights: " + mergeFirst,
	"layer_replication":       "the adapter is for a model with repeated layers: " + mergeFirst,
	"target_parameters":       "updates of bare parameters are not read: " + mergeFirst,
	"trainable_token_indices": "trained single tokens are not read: " + mergeFirst,
	"megatron_config":         "Megatron's layers are not read",
	"use_qalora":              "QA-LoRA pools its inputs, which is no low-rank update",
	"use_bdlora":              "block-diagonal LoRA is not read: " + mergeFirst,
	"alora_invocation_tokens": "activated LoRA applies to some tokens only and cannot be a change of weights",
	"arrow_config":            "Arrow routes among adapters and is no change of weights by itself",
	"kasa_config":             "KaSA truncates the base's weights: " + mergeFirst,
	"velora_config":           "VeLoRA is not read: " + mergeFirst,
	"monteclora_config":       "MonteCLoRA samples its weights",
}

// knownSettings are the keys that are read, or that say nothing about what the
// tensors mean.
var knownSettings = []string{
	"alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
	"eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
	"layers_to_transform", "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_core",
	"modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision",
	"runtime_config", "target_modules", "task_type", "use_rslora",
}

// plainInits are the values of init_lora_weights that leave the base as it is.
var plainInits = []string{"gaussian", "eva", "orthogonal", "mica"}

// parseAdapter reads an adapter's config; everything that is wrong with it
// comes back in one error.
func parseAdapter(cfg Config) (*adapterSettings, error) {
	raw := cfg.Raw
	var probs problems
	if kind := raw.Str("peft_type"); kind != "LORA" {
		return nil, fmt.Errorf("peft_type is %.60q, want \"LORA\": %s", kind, mergeFirst)
	}
	for _, m := range raw.Members {
		reason, refused := refusedSettings[m.Name]
		switch {
		case slices.Contains(knownSettings, m.Name) || neutral(m.Value):
		case refused:
			probs.add("%s is set: %s", m.Name, reason)
		default:
			probs.add("%s is set to %.60s, which smelt does not know and cannot ignore", m.Name, ojson.Append(nil, m.Value))
		}
	}
	checkInit(raw, &probs)
	s := &adapterSettings{bias: "none"}
	s.numbers(raw, &probs)
	s.flags(raw, &probs)
	var err error
	if s.ranks, err = patternMap(raw, "rank_pattern"); err != nil {
		probs.add("%v", err)
	}
	if s.alphas, err = patternMap(raw, "alpha_pattern"); err != nil {
		probs.add("%v", err)
	}
	if s.target, err = targets(raw, s.saved); err != nil {
		probs.add("%v", err)
	}
	return s, probs.err()
}

// neutral reports whether a value is one that switches nothing on.
func neutral(v ojson.Value) bool {
	switch v.Kind {
	case ojson.Bool:
		return !v.Bool
	case ojson.Number:
		f, ok := v.Float()
		return ok && f == 0
	case ojson.String:
		return v.Text == ""
	default:
		return len(v.Elems) == 0 && len(v.Members) == 0
	}
}

func checkInit(raw ojson.Value, probs *problems) {
	v, ok := raw.Get("init_lora_weights")
	if !ok || v.Kind == ojson.Bool || v.Kind == ojson.Null {
		return
	}
	if v.Kind == ojson.String && slices.Contains(plainInits, strings.ToLower(v.Text)) {
		return
	}
	probs.add("init_lora_weights is %.60s, which alters the base's weights: save the adapter again with save_pretrained(DIR, path_initial_model_for_weight_conversion=...), or %s",
		ojson.Append(nil, v), mergeFirst)
}

func (s *adapterSettings) numbers(raw ojson.Value, probs *problems) {
	r, _ := raw.Get("r")
	n, ok := r.Int()
	if !ok || n < 1 || n > 1<<20 {
		probs.add("r is missing or not a whole number from 1")
	}
	s.rank = int(n)
	alpha, _ := raw.Get("lora_alpha")
	if s.alpha, ok = alpha.Float(); !ok || s.alpha-s.alpha != 0 {
		probs.add("lora_alpha is missing or not a finite number")
	}
}

func (s *adapterSettings) flags(raw ojson.Value, probs *problems) {
	for key, to := range map[string]*bool{"use_rslora": &s.rsLoRA, "fan_in_fan_out": &s.fanInFanOut, "lora_bias": &s.loraBias} {
		if v, ok := raw.Get(key); ok && v.Kind != ojson.Null {
			if v.Kind != ojson.Bool {
				probs.add("%s is %s, want true or false", key, v.Kind.A())
			}
			*to = v.Bool
		}
	}
	if v, ok := raw.Get("bias"); ok && v.Kind != ojson.Null {
		s.bias = v.Text
		if v.Kind != ojson.String || !slices.Contains([]string{"none", "all", "lora_only"}, v.Text) {
			probs.add("bias is %.60s, want \"none\", \"all\" or \"lora_only\"", ojson.Append(nil, v))
		}
	}
	var err error
	if s.saved, err = stringList(raw, "modules_to_save"); err != nil {
		probs.add("%v", err)
	}
}

// stringList reads a key that is a list of strings or null; one string is a
// list of one.
func stringList(raw ojson.Value, key string) ([]string, error) {
	v, ok := raw.Get(key)
	if !ok || v.Kind == ojson.Null {
		return nil, nil
	}
	if v.Kind == ojson.String {
		return []string{v.Text}, nil
	}
	list, ok := v.Strings()
	if !ok {
		return nil, fmt.Errorf("%s is not a list of strings", key)
	}
	return list, nil
}

func patternMap(raw ojson.Value, key string) ([]patternValue, error) {
	v, ok := raw.Get(key)
	if !ok || v.Kind == ojson.Null {
		return nil, nil
	}
	if v.Kind != ojson.Object || len(v.Members) > maxPatterns {
		return nil, fmt.Errorf("%s is not an object of at most %d numbers", key, maxPatterns)
	}
	out := make([]patternValue, len(v.Members))
	for i, m := range v.Members {
		f, ok := m.Value.Float()
		if !ok || f-f != 0 {
			return nil, fmt.Errorf("%s: %.100q has no finite number", key, m.Name)
		}
		p, err := compileSuffix(m.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out[i] = patternValue{p, f}
	}
	return out, nil
}

// lookup returns the value of the first pattern that matches a module, as
// PEFT's get_pattern_key does.
func lookup(patterns []patternValue, module string, otherwise float64) (float64, error) {
	for _, p := range patterns {
		ok, err := p.pattern.match(module)
		if err != nil {
			return 0, err
		}
		if ok {
			return p.value, nil
		}
	}
	return otherwise, nil
}

// targets returns PEFT's check_target_module_exists: whether the config wants
// an update on a module. It guards against a file and a config that do not
// belong together, since PEFT leaves out what the config does not name.
func targets(raw ojson.Value, saved []string) (func(string) (bool, error), error) {
	isTarget, err := nameMatcher(raw, "target_modules")
	if err != nil {
		return nil, err
	}
	isExcluded, err := nameMatcher(raw, "exclude_modules")
	if err != nil {
		return nil, err
	}
	inLayers, err := layerMatcher(raw)
	if err != nil {
		return nil, err
	}
	v, _ := raw.Get("target_modules")
	list, _ := v.Strings()
	return func(module string) (bool, error) {
		if isExcluded != nil {
			if out, err := isExcluded(module); out || err != nil {
				return false, err
			}
		}
		for _, m := range saved {
			if strings.Contains("."+module+".", "."+m+".") {
				return false, nil
			}
		}
		if isTarget == nil { // the model type's default, or all-linear
			return true, nil
		}
		in, err := isTarget(module)
		if in && inLayers != nil && !slices.Contains(list, module) {
			return inLayers(module)
		}
		return in, err
	}, nil
}

// nameMatcher reads a key that is one regular expression for whole names, or a
// list of name endings; nil stands for null and for "all-linear".
func nameMatcher(raw ojson.Value, key string) (func(string) (bool, error), error) {
	v, ok := raw.Get(key)
	switch {
	case !ok || v.Kind == ojson.Null:
		return nil, nil
	case v.Kind == ojson.String && (v.Text == "all-linear" || v.Text == ""):
		return nil, nil
	case v.Kind == ojson.String:
		p, err := compilePattern(v.Text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		return p.match, nil
	}
	list, ok := v.Strings()
	if !ok {
		return nil, fmt.Errorf("%s is neither a string nor a list of strings", key)
	}
	if key == "exclude_modules" && len(list) == 0 {
		return nil, nil
	}
	return func(module string) (bool, error) {
		return slices.ContainsFunc(list, func(s string) bool {
			return module == s || strings.HasSuffix(module, "."+s)
		}), nil
	}, nil
}

// anyLayer finds the first numbered segment of a module's name.
var anyLayer = regexp.MustCompile(`\A.*?\.[^.]*\.(\d+)\.`)

// layerMatcher reads layers_to_transform and layers_pattern; nil stands for
// all layers.
func layerMatcher(raw ojson.Value) (func(string) (bool, error), error) {
	v, ok := raw.Get("layers_to_transform")
	if !ok || v.Kind == ojson.Null || v.Kind == ojson.Array && len(v.Elems) == 0 {
		return nil, nil
	}
	elems := v.Elems
	if v.Kind != ojson.Array {
		elems = []ojson.Value{v}
	}
	layers := make([]int64, len(elems))
	for i, e := range elems {
		if layers[i], ok = e.Int(); !ok {
			return nil, fmt.Errorf("layers_to_transform is neither a whole number nor a list of them")
		}
	}
	patterns, err := stringList(raw, "layers_pattern")
	if err != nil {
		return nil, err
	}
	exprs := []*regexp.Regexp{anyLayer}
	if len(patterns) > 0 {
		exprs = nil
		for _, p := range patterns {
			if len(p) > maxPattern {
				return nil, fmt.Errorf("layers_pattern has %d bytes, more than %d", len(p), maxPattern)
			}
			re, err := regexp.Compile(`\A(?:|.*?\.)(?:` + p + `)\.(\d+)\.`)
			if err != nil {
				return nil, fmt.Errorf("layers_pattern: %w", err)
			}
			exprs = append(exprs, re)
		}
	}
	return func(module string) (bool, error) {
		for _, re := range exprs {
			m := re.FindStringSubmatch(module)
			if m == nil {
				continue
			}
			n, err := strconv.ParseInt(m[len(m)-1], 10, 64)
			return err == nil && slices.Contains(layers, n), nil
		}
		return false, nil
	}, nil
}
