// The access token of the start page. It is kept for this tab only, never in the page's address.
//
// Requests by fetch send it as a header. Neither EventSource nor a frame can do that: they get it in
// the address if the gateway accepts that, else in the gateway's cookie.

const KEPT = "tidegate.token";
const { tokenInAddress, cookie } = document.body.dataset;
const field = document.getElementById("token"); // missing without keys

export function token() {
  return field?.value.trim() ?? "";
}

// Returns the headers of a request with the token, if there is one.
export function tokenHeaders() {
  return token() === "" ? {} : { authorization: `Bearer ${token()}` };
}

// Returns the parameters of a stream with the token, if there is one.
export function tokenParameters() {
  return token() === "" || tokenInAddress !== "true" ? {} : { authorization: token() };
}

// Sets the cookie for streams, where only that works. Returns why it cannot be set, or undefined.
export function presentByCookie() {
  if (token() === "" || tokenInAddress === "true") {
    return undefined;
  }
  if (cookie === "") {
    return "this gateway takes tokens in the header only (auth.cookie); long poll sends it";
  }
  document.cookie = `${cookie}=${token()}; path=${new URL(".", location.href).pathname}; samesite=strict; secure`;
  const isKept = document.cookie.split("; ").includes(`${cookie}=${token()}`);
  return isKept
    ? undefined
    : `the browser does not keep the cookie ${cookie}, which needs HTTPS; long poll sends the token`;
}

export function whenTokenChanges(changed) {
  if (!field) {
    return;
  }
  field.value = sessionStorage.getItem(KEPT) ?? "";
  field.addEventListener("input", () => {
    sessionStorage.setItem(KEPT, token());
    changed(false);
  });
  field.addEventListener("change", () => changed(true));
  document.getElementById("access").addEventListener("submit", (event) => {
    event.preventDefault();
    changed(true);
  });
}
