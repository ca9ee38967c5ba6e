package admin

import (
	"errors"
	"net/http"

	"mailout/internal/config"
)

// reloadProblem lists every error of the file with its position.
func reloadProblem(err error) *Problem {
	p := &Problem{Status: http.StatusUnprocessableEntity, Field: "config", Detail: err.Error()}
	var all config.Errors
	if errors.As(err, &all) {
		for _, e := range all {
			p.Errors = append(p.Errors, e.Error())
		}
	}
	return p
}
