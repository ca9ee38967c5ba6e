package doctor

func listProbes() []probe { return nil }
