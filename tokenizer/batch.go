package tokenizer

import (
	"fmt"
	"slices"
)

// Options say how texts become a batch.
type Options struct {
	// AddSpecial puts the template's special tokens around each text.
	AddSpecial bool
	// MaxLength cuts texts so that they have at most that many tokens, special
	// ones included; 0 leaves them as they are.
	MaxLength int
	// TruncateLeft drops the beginning of a text that is too long.
	TruncateLeft bool
	// Pad fills up all texts to the longest, or to PadTo if that is longer.
	Pad   bool
	PadTo int
	// PadLeft puts the padding in front, as decoders want it.
	PadLeft bool
	// PadID is the id to fill up with; -1 means the pad token.
	PadID int
}

// Batch is what EncodeBatch returns.
type Batch struct {
	IDs [][]int
	// Mask is 1 for tokens and 0 for padding, in the shape of IDs.
	Mask [][]int
}

// EncodeBatch encodes texts to rows of ids.
func (t *Tokenizer) EncodeBatch(texts []string, o Options) (*Batch, error) {
	added := 0
	if o.AddSpecial {
		added = t.template.added(false)
	}
	if o.MaxLength < 0 || (o.MaxLength > 0 && o.MaxLength < added) {
		return nil, fmt.Errorf("tokenizer: max length %d, want at least the %d special tokens", o.MaxLength, added)
	}
	b := &Batch{IDs: make([][]int, len(texts)), Mask: make([][]int, len(texts))}
	longest := 0
	for i, text := range texts {
		ids, err := t.encode(text)
		if err != nil {
			return nil, fmt.Errorf("text %d: %w", i, err)
		}
		if room := o.MaxLength - added; o.MaxLength > 0 && len(ids) > room {
			if o.TruncateLeft {
				ids = ids[len(ids)-room:]
			} else {
				ids = ids[:room]
			}
		}
		b.IDs[i] = t.template.apply([][]int{ids}, o.AddSpecial)
		b.Mask[i] = slices.Repeat([]int{1}, len(b.IDs[i]))
		longest = max(longest, len(b.IDs[i]))
	}
	if !o.Pad {
		return b, nil
	}
	return b, t.pad(b, max(longest, o.PadTo), o)
}

// pad fills up the rows of b to length.
func (t *Tokenizer) pad(b *Batch, length int, o Options) error {
	if length > maxFile {
		return fmt.Errorf("tokenizer: padding to %d tokens, want at most %d", length, maxFile)
	}
	id := o.PadID
	if id < 0 {
		var ok bool
		if id, ok = t.Pad(); !ok {
			return fmt.Errorf("tokenizer: padding asked for, but there is no pad token")
		}
	}
	for i, ids := range b.IDs {
		count := length - len(ids)
		ids, zeros := slices.Repeat([]int{id}, count), make([]int, count)
		if o.PadLeft {
			b.IDs[i], b.Mask[i] = append(ids, b.IDs[i]...), append(zeros, b.Mask[i]...)
		} else {
			b.IDs[i], b.Mask[i] = append(b.IDs[i], ids...), append(b.Mask[i], zeros...)
		}
	}
	return nil
}
