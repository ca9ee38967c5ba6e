package admin

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/queue"
)

// shownHold and shownReroute are how queue writes its orders: types that write
// themselves say nothing of it to the document.
type shownHold struct {
	Destination string `json:"destination"`
	Stream      string `json:"stream,omitempty"`
	By          string `json:"by,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Since       string `json:"since" format:"date-time"`
	Expires     string `json:"expires,omitempty" format:"date-time"`
}

type shownReroute struct {
	Destination string `json:"destination"`
	Stream      string `json:"stream,omitempty"`
	By          string `json:"by,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Since       string `json:"since" format:"date-time"`
	Expires     string `json:"expires,omitempty" format:"date-time"`
	To          string `json:"to"`
}

func documentTypes(api huma.API) {
	schemas := api.OpenAPI().Components.Schemas
	schemas.RegisterTypeAlias(reflect.TypeFor[queue.Hold](), reflect.TypeFor[shownHold]())
	schemas.RegisterTypeAlias(reflect.TypeFor[queue.Reroute](), reflect.TypeFor[shownReroute]())
}
