// The script of all pages: dialogs, copying, local times, live regions. Every page works without it, with links and forms.
//
// It keeps no cookie, and of what is filled in only the unsent name, permissions and expiration of a new key, for this tab: never
// a key, a token or a nonce. Markup comes parsed from this service (XMLHttpRequest gives a document), so no
// string becomes markup or code here, which the Content-Security-Policy enforces as well.
"use strict";
(() => {
  // Everything may be below a path.
  const base = new URL("..", document.currentScript.src);
