import uPlot from '/vendor/uplot.js'

document.title = `Sidecast ${uPlot.name}`
