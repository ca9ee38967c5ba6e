package config

// Changes of a configuration file, by those of its text (edit.go).

// Set is Edit with one key and value.
func Set(path, key, value string) error { return Edit(path, Change{Key: key, Value: value}) }

// Unset is Edit that removes one key or table; its default holds then.
func Unset(path, key string) error { return Edit(path, Change{Key: key, Unset: true}) }

// Edit changes a configuration file, all changes or none. It checks the whole
// result, and the files that it names, before it writes; it writes atomically,
// keeping mode and owner; and it creates a file that is missing. Several
// processes may do this at once. The error is of type Errors; an unknown key's
// wraps ErrUnknownKey.
func Edit(path string, changes ...Change) error {
	return Begin(path, "", changes...)
}

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

// EditBy is Edit with changes that follow from the configuration in the file, as
// those of a table's last element do: from giving it until they are made no other
// Edit changes the file.
func EditBy(path string, changes func(c *Config) []Change) error {
	return rewrite(path, func(old []byte) ([]byte, error) {
		c, err := Parse(path, old)
		if err != nil {
			return nil, err
		}
		return edited(path, old, changes(c))
	})
}

// edited is the text after the changes, checked with the files that it names.
func edited(path string, old []byte, changes []Change) ([]byte, error) {
	data, err := Apply(path, old, changes...)
	if err != nil {
		return nil, err
	}
	l := parse(path, data)
	l.checkFiles()
	if _, err := l.result(); err != nil {
		return nil, err
	}
	return data, nil
}
