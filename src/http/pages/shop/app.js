// Filled by the page.
export {};
