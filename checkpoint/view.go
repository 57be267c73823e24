package checkpoint

// View returns the checkpoint seen under another config, with only the tensors
// that keep names: the base inside a fused model. It shares the files of c,
// which stays responsible for closing them.
func (c *Checkpoint) View(cfg Config, keep func(name string) bool) *Checkpoint {
	v := &Checkpoint{Dir: c.Dir, Config: cfg, fs: c.fs, names: c.names, files: c.files, byName: map[string]int{}}
	for _, t := range c.tensors {
		if keep(t.Name) {
			v.byName[t.Name] = len(v.tensors)
			v.tensors = append(v.tensors, t)
		}
	}
	v.tied = tiedGroups(v)
	return v
}
