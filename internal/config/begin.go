package config

// Begin is Edit for a file that need not exist yet: a new one starts with a
// text, which may hold comments. When the file is there, the text is not used.
func Begin(path, text string, changes ...Change) error {
	return rewrite(path, func(old []byte) ([]byte, error) {
		if old == nil {
			old = []byte(text)
		}
		return edited(path, old, changes)
	})
}
