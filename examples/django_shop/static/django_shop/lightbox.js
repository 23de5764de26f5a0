// Neither callback proves anything: the order's page waits for the postback.
const { href, orderPage } = document.getElementById("lightbox").dataset;
const toOrder = () => location.assign(orderPage);
new GetFinancing(href, toOrder, toOrder);
