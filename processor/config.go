package processor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
)

// config is a preprocessor_config.json.
type config struct {
	Type          string          `json:"image_processor_type"`
	LegacyType    string          `json:"feature_extractor_type"`
	DoResize      *bool           `json:"do_resize"`
	Size          json.RawMessage `json:"size"`
	Resample      *int            `json:"resample"`
	DoCenterCrop  *bool           `json:"do_center_crop"`
	CropSize      json.RawMessage `json:"crop_size"`
	DoRescale     *bool           `json:"do_rescale"`
	RescaleFactor *float64        `json:"rescale_factor"`
	DoNormalize   *bool           `json:"do_normalize"`
	Mean          channels        `json:"image_mean"`
	Std           channels        `json:"image_std"`
	DoPad         *bool           `json:"do_pad"`
}

// channels is one number for all channels, or three.
type channels []float64

// UnmarshalJSON implements json.Unmarshaler.
func (c *channels) UnmarshalJSON(data []byte) error {
	var one float64
	if json.Unmarshal(data, &one) == nil && len(data) > 0 && data[0] != 'n' {
		*c = channels{one, one, one}
		return nil
	}
	var list []float64
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	if list != nil && len(list) != 3 {
		return fmt.Errorf("%d channels, want 3", len(list))
	}
	*c = list
	return nil
}

// kind is what transformers assumes for a class of processors.
type kind struct {
	resample      int
	size          target
	squareFromInt bool // a size of one number is a square, not the shorter edge
	crop          bool
	mean, std     channels
}

var kinds = map[string]kind{
	"CLIP": {
		resample: 3, size: target{shortest: 224}, crop: true,
		mean: channels{0.48145466, 0.4578275, 0.40821073}, std: channels{0.26862954, 0.26130258, 0.27577711},
	},
	"ViT": {
		resample: 2, size: target{height: 224, width: 224}, squareFromInt: true,
		mean: channels{0.5, 0.5, 0.5}, std: channels{0.5, 0.5, 0.5},
	},
}

const maxConfig = 1 << 20

// LoadFS reads preprocessor_config.json, or the image processor's part of
// processor_config.json, at the root of files.
func LoadFS(files fs.FS) (*Image, error) {
	name := "preprocessor_config.json"
	data, err := readFile(files, name)
	if errors.Is(err, fs.ErrNotExist) {
		name = "processor_config.json"
		var whole struct {
			Image json.RawMessage `json:"image_processor"`
		}
		if data, err = readFile(files, name); err == nil {
			if err = json.Unmarshal(data, &whole); err == nil && whole.Image == nil {
				err = errors.New("image_processor is missing")
			}
			data = whole.Image
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("processor: no preprocessor_config.json")
	}
	var p *Image
	if err == nil {
		p, err = Parse(data)
	}
	if err != nil {
		return nil, fmt.Errorf("processor: %s: %w", name, err)
	}
	return p, nil
}

func readFile(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("more than %d bytes", maxConfig)
	}
	return data, err
}

// Parse reads the content of a preprocessor_config.json.
func Parse(data []byte) (*Image, error) {
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	if c.Type == "" {
		c.Type = c.LegacyType
	}
	class := c.Type
	for _, suffix := range []string{"Fast", "Pil", "ImageProcessor", "FeatureExtractor"} {
		class = strings.TrimSuffix(class, suffix)
	}
	k, ok := kinds[class]
	if !ok {
		return nil, fmt.Errorf("image_processor_type %q, want one of %s, each with ImageProcessor behind", c.Type,
			strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	if c.DoPad != nil && *c.DoPad {
		return nil, errors.New("do_pad is not supported")
	}
	p := &Image{resize: is(c.DoResize, true), crop: is(c.DoCenterCrop, k.crop)}
	if err := p.setSizes(&c, k); err != nil {
		return nil, err
	}
	resample := k.resample
	if c.Resample != nil {
		resample = *c.Resample
	}
	if p.filter, ok = filters[resample]; !ok {
		return nil, fmt.Errorf("resample %d, want 0 to 5", resample)
	}
	return p, p.setValues(&c, k)
}

func is(flag *bool, otherwise bool) bool {
	if flag == nil {
		return otherwise
	}
	return *flag
}

func (p *Image) setSizes(c *config, k kind) error {
	p.size = k.size
	if c.Size != nil && string(c.Size) != "null" {
		t, err := readSize(c.Size, k.squareFromInt)
		if err != nil {
			return fmt.Errorf("size: %w", err)
		}
		p.size = t
	}
	p.cropH, p.cropW = 224, 224
	if c.CropSize != nil && string(c.CropSize) != "null" {
		t, err := readSize(c.CropSize, true)
		if err == nil && t.shortest > 0 {
			err = errors.New("want height and width")
		}
		if err != nil {
			return fmt.Errorf("crop_size: %w", err)
		}
		p.cropH, p.cropW = t.height, t.width
	}
	return nil
}

// readSize reads a number, {"height","width"} or {"shortest_edge"}.
func readSize(data json.RawMessage, square bool) (target, error) {
	var s struct {
		Height, Width int
		Shortest      int `json:"shortest_edge"`
		Longest       int `json:"longest_edge"`
	}
	var one int
	if err := json.Unmarshal(data, &one); err == nil {
		s.Shortest = one
		if square {
			s.Height, s.Width, s.Shortest = one, one, 0
		}
	} else if err := json.Unmarshal(data, &s); err != nil {
		return target{}, err
	}
	t := target{height: s.Height, width: s.Width, shortest: s.Shortest, longest: s.Longest}
	fixed := t.height > 0 && t.width > 0 && t.shortest == 0
	if !fixed && t.shortest <= 0 || max(t.height, t.width, t.shortest, t.longest) > maxEdge || t.longest < 0 {
		return target{}, fmt.Errorf("%.80s, want height and width, or shortest_edge, of 1 to %d", data, maxEdge)
	}
	return t, nil
}

// setValues computes what each byte becomes: the product in float64, rounded to
// float32, then (x − mean)/std in float32.
func (p *Image) setValues(c *config, k kind) error {
	mean, std, scale := c.Mean, c.Std, 1.0/255
	if mean == nil {
		mean = k.mean
	}
	if std == nil {
		std = k.std
	}
	if c.RescaleFactor != nil {
		scale = *c.RescaleFactor
	}
	for i := range 3 {
		m, s := float32(mean[i]), float32(std[i])
		if s == 0 || math.IsInf(float64(1/s), 0) {
			return fmt.Errorf("image_std %g, want a divisor", std[i])
		}
		for v := range p.values[i] {
			x := float32(v)
			if is(c.DoRescale, true) {
				x = float32(float64(v) * scale)
			}
			if is(c.DoNormalize, true) {
				x = float32(x-m) / s
			}
			p.values[i][v] = x
		}
	}
	return nil
}

// roundEven rounds to the nearest integer, halves to the even one.
func roundEven(x float64) int { return int(math.RoundToEven(x)) }
