package unsubscribe

// The pages that people see who follow a link by hand. They hold no address and
// nothing of the mail, run no program and load nothing; the button sends what a
// mail program does.

// contentPolicy lets a page do nothing but send its form here.
const contentPolicy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const (
	pageHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Unsubscribe</title>
<style>body{font:1.1em/1.5 sans-serif;max-width:32em;margin:4em auto;padding:0 1em}button{font:inherit;padding:.4em 1.2em}</style>
</head>
<body>
`
	pageEnd = "</body>\n</html>\n"

	pageAsk = pageHead + `<h1>Unsubscribe</h1>
<p>Do you want to get no more mail of this kind?</p>
<form method="post">
<input type="hidden" name="List-Unsubscribe" value="One-Click">
<button type="submit">Unsubscribe</button>
</form>
` + pageEnd
	pageDone = pageHead + `<h1>Unsubscribed</h1>
<p>You will get no more mail of this kind. What is on its way already may still arrive.</p>
` + pageEnd
	pageUnknown = pageHead + `<h1>Unknown link</h1>
<p>This link does not work. Was it copied as a whole?</p>
` + pageEnd
	pageLater = pageHead + `<h1>Not now</h1>
<p>This could not be done at this moment. Please try again in some minutes.</p>
` + pageEnd
	pageWrong = pageHead + `<h1>Not understood</h1>
<p>Nothing was changed.</p>
` + pageEnd
)
