package route

import "slices"

// Routers names the routers of the settings as routes name them, each once;
// those of tables are not among them.
func (p *Planner) Routers() []string {
	c := p.settings.Load()
	var names []string
	add := func(r *relay) {
		if r != nil && !slices.Contains(names, r.text) {
			names = append(names, r.text)
		}
	}
	add(c.router)
	for i := range c.rules {
		add(c.rules[i].target.relay)
	}
	return names
}
