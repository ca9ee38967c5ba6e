package config

// Given reports whether the file sets a key, by its full name
// ("delivery.expire", "route.1.tls"); else its value is a default.
func (c *Config) Given(full string) bool { return c.given[full] }
