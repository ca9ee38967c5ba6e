package route

import (
	"mailout/internal/mta"
	"mailout/internal/shape"
)

// provider gives who runs the hosts of a direct route; nobody for a router,
// whose limits are its operator's.
func provider(r *mta.Route) string {
	if r.Router != "" || len(r.Hosts) == 0 {
		return ""
	}
	return shape.Provider([]string{r.Hosts[0].Name})
}
