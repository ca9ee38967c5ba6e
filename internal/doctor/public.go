package doctor

import "context"

func (x *exam) findFaces(ctx context.Context) []face { return nil }
