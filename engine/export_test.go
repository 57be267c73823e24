package engine

// SetSyncBytes changes how often work is journalled and returns what restores
// it.
func SetSyncBytes(n int64) (restore func()) {
	old := syncBytes
	syncBytes = n
	return func() { syncBytes = old }
}
