package kernel

// Use makes the variant of that name the active one until the returned function
// is called.
func Use(name string) (restore func()) {
	old := active
	for _, v := range variants {
		if v.name == name {
			active = v
		}
	}
	return func() { active = old }
}
