// SPDX-License-Identifier: GPL-2.0
// A click on an event, or on any link within the page, opens what it leads to. Without this a browser goes
// there and may leave it to the reader to open it.
document.addEventListener("click", (click) => {
	const link = click.target.closest("a");
	const href = link ? link.getAttribute("href") : "";
	if (!href.startsWith("#")) return;
	const target = document.getElementById(href.slice(1));
	for (let part = target; part; part = part.parentElement) {
		if (part.tagName === "DETAILS") part.open = true;
	}
});
