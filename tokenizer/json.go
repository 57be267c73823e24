package tokenizer

import (
	"bytes"
	"encoding/json"
)

// absent reports whether a part of a file is missing or null.
func absent(data json.RawMessage) bool {
	return len(data) == 0 || bytes.Equal(data, []byte("null"))
}
