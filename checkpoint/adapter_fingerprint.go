package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Fingerprint identifies the adapter's content as far as size, modification
// time, config and header tell: it keys what is resumed.
func (a *Adapter) Fingerprint() (string, error) {
	info, err := a.fs.Stat(a.file.Path())
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %d\n", info.Size(), info.ModTime().UnixNano())
	h.Write(a.Config.Text)
	h.Write(a.file.Header())
	return hex.EncodeToString(h.Sum(nil)), nil
}
