import type { Client } from "./tidegate.js";

/** Variables that the gateway sees, and functions on both sides. */
export interface Now {
  ready(listener: () => void): Promise<void>;
  readonly core: {
    readonly clientId: string | undefined;
    on(type: "connect" | "disconnect", listener: (id: string | undefined) => void): void;
  };
  [name: string]: any;
}

/** The `now` of the gateway that has served the script. */
export const now: Now;

/** Returns a `now` for a client. */
export function nowOver(client: Client): Now;
